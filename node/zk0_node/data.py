"""Data sets: open a LeRobotDataset v3, check that it can serve, split it by episode, hold it in memory.

A recording is decoded once, front to back, and kept in a cache named after the digest of its files. A
later process reads the cache and needs neither a video decoder nor LeRobot.
"""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zk0_proofs.digest import keccak, keccak_abi
from zk0_proofs.errors import ConfigError, DataError
from zk0_proofs.files import parse_json, write_atomic
from zk0_proofs.types import Digest

from .archives import read_npz

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

logger = logging.getLogger(__name__)

STATE_KEY, ACTION_KEY = "observation.state", "action"
IMAGE_PREFIX = "observation.images."
DEFAULT_ROBOT = "so101_follower"
MAX_ACTION_DIM = 6
"""Outputs of the read-out circuit."""
MIN_HELD_OUT = 256
"""Rows of a shard: inside one, no held-out sample may recur."""
MAX_MAGNITUDE = 1e6
"""Of states and actions. Degrees and ticks stay below 10^4; networks turn far larger numbers into NaN."""
IMAGE_SIDES = (8, 4096)
MAX_ASPECT = 8
"""How many times as wide as high an image may be, or the reverse: policies pad it to a square."""
MAX_FRAMES = 200_000
"""Frames kept in memory at most; 200,000 images of 96 x 96 are 5.5 GB."""
_CACHE_VERSION = 1

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a policy and a campaign ask of a data set."""

    cameras: tuple[str, ...]
    """Keys of the images that the policy reads."""
    state_dim: int
    action_dim: int
    robot: str | None = DEFAULT_ROBOT
    """LeRobot's robot type; None takes any robot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Observations with the actions that followed, in the recording's own units."""

    images: Mapping[str, Images]
    """Per camera [B, height, width, 3]."""
    state: Floats
    """[B, state_dim]."""
    actions: Floats
    """[B, chunk_size, action_dim]; past the episode's end its last action is repeated."""
    valid: Indices
    """[B] action tokens inside the episode, from 1 to chunk_size."""
    words: tuple[str, ...]
    """[B] task descriptions."""

    def __len__(self) -> int:
        return len(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A decoded data set; every array's first axis is time, episode after episode."""

    images: Mapping[str, Images]
    state: Floats
    action: Floats
    episode: Indices
    task: Indices
    """Index into `tasks`."""
    tasks: tuple[str, ...]
    robot: str
    fps: int
    digest: Digest
    """Digest of the data set's files."""

    def __len__(self) -> int:
        return len(self.state)

    @property
    def num_episodes(self) -> int:
        """Return how many episodes there are."""
        return len(np.unique(self.episode))

    def samples(self, indices: Indices, chunk_size: int) -> Samples:
        """Return the samples that begin at frames `indices`."""
        last = np.searchsorted(self.episode, self.episode[indices], side="right") - 1
        steps = np.minimum(indices[:, None] + np.arange(chunk_size), last[:, None])
        return Samples(
            images={camera: block[indices] for camera, block in self.images.items()},
            state=self.state[indices],
            actions=self.action[steps],
            valid=np.minimum(last - indices + 1, chunk_size),
            words=tuple(self.tasks[task] for task in self.task[indices]),
        )

    def stats(self, indices: Indices) -> dict[str, dict[str, Floats]]:
        """Return mean and deviation of states and actions over frames `indices`, as LeRobot names them."""
        return {
            key: {"mean": block[indices].mean(axis=0), "std": block[indices].std(axis=0)}
            for key, block in ((STATE_KEY, self.state), (ACTION_KEY, self.action))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Frames to learn from and frames held out, by whole episodes."""

    train: Indices
    held_out: Indices


def open_recording(source: str | Path, requirements: Requirements, cache: Path | None = None) -> Recording:
    """Return the data set at `source`, a LeRobotDataset v3 root or a Hub id, decoded.

    Args:
        source: folder that holds `meta/info.json`, or `owner/name` on the Hugging Face Hub.
        requirements: what it must offer; more cameras than those are ignored.
        cache: folder for decoded copies; None decodes each time.

    Raises:
        DataError: it is not such a data set, or cannot serve; the message says why.
        ConfigError: LeRobot is needed for decoding and not installed.
    """
    root = Path(source)
    if not root.is_dir():
        root = _download(str(source))
    info = _read_info(root)
    _require_features(info, requirements, source)
    digest = files_digest(root, ("data", "meta", "videos"))
    cached = cache / f"{digest.hex()}-{_cameras_tag(requirements)}.npz" if cache is not None else None
    recording = _load(cached, digest) if cached is not None and cached.is_file() else None
    if recording is None:
        recording = _decode(root, info, requirements, digest)
        if cached is not None:
            _save(cached, recording)
    _require_content(recording, requirements, source)
    return recording


def split_episodes(recording: Recording, held_out_fraction: float) -> Split:
    """Return the split by episode that holds out an even `held_out_fraction` of the episodes.

    Whether an episode is held out depends on its position alone, so episodes that are recorded later
    move none of the earlier ones. The first episode is never held out.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
        DataError: too few held-out frames for a shard.
    """
    if not 0 < held_out_fraction < 1:
        raise ConfigError(f"held-out fraction {held_out_fraction} is not between 0 and 1; 0.15 is usual")
    episodes = np.unique(recording.episode)
    position = np.searchsorted(episodes, recording.episode)
    held_out = np.floor((position + 1) * held_out_fraction) > np.floor(position * held_out_fraction)
    split = Split(train=np.flatnonzero(~held_out), held_out=np.flatnonzero(held_out))
    if not len(split.held_out):
        raise DataError(
            f"no episode is held out of {len(episodes)} at a held-out fraction of {held_out_fraction}; "
            "record more episodes or raise the fraction"
        )
    samples = recording.samples(split.held_out, 1)
    distinct = len({sample_bytes(samples, i) for i in range(len(samples))})
    if distinct < MIN_HELD_OUT:
        raise DataError(
            f"the data set has {distinct} distinct held-out samples, a shard needs {MIN_HELD_OUT}; "
            "record more episodes or raise the held-out fraction"
        )
    return split


def sample_bytes(samples: Samples, position: int) -> bytes:
    """Return the canonical bytes of one sample: name, type, shape and content of every field."""
    stream = io.BytesIO()
    arrays = {
        **{camera: samples.images[camera][position] for camera in sorted(samples.images)},
        STATE_KEY: samples.state[position],
        ACTION_KEY: samples.actions[position],
        "valid": samples.valid[position : position + 1],
    }
    for name, array in arrays.items():
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        stream.write(f"{name} {little_endian.dtype.str} {little_endian.shape}\n".encode())
        stream.write(little_endian.tobytes())
    stream.write(samples.words[position].encode())
    return stream.getvalue()


def sample_digest(samples: Samples, position: int, salt: bytes) -> Digest:
    """Return the salted digest of one sample, a leaf of the sample root; `salt` has 32 bytes."""
    return keccak_abi(["bytes32", "bytes32"], [salt, keccak(sample_bytes(samples, position))])


def files_digest(root: Path, names: Sequence[str]) -> Digest:
    """Return the digest of the files and folders `names` under `root`: their relative paths and contents."""
    paths = [path for name in names for path in _files_below(root / name)]
    paths.sort(key=lambda path: path.relative_to(root).as_posix())
    return keccak_abi(
        ["string[]", "bytes32[]"],
        [
            [path.relative_to(root).as_posix() for path in paths],
            [keccak(path.read_bytes()) for path in paths],
        ],
    )


def _files_below(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _cameras_tag(requirements: Requirements) -> str:
    return keccak("\n".join(sorted(requirements.cameras)).encode()).hex()[:8]


# ---- checks


def _read_info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    try:
        info: dict[str, Any] = parse_json(path.read_bytes())
        version, features = str(info["codebase_version"]), dict(info["features"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{root} is not a LeRobot data set: {path.relative_to(root)} is missing or unreadable"
        ) from error
    if not version.startswith("v3."):
        raise DataError(
            f"{root} is a LeRobot data set of version {version}, expected v3; convert it with "
            "lerobot.datasets.v30.convert_dataset_v21_to_v30"
        )
    if not all(isinstance(entry, dict) and _is_shape(entry.get("shape")) for entry in features.values()):
        raise DataError(
            f"{root}: meta/info.json describes features without shapes; record the data set again"
        )
    for name in ("total_episodes", "total_frames", "fps"):
        if type(info.get(name)) is not int:
            raise DataError(
                f"{root}: {name} in meta/info.json is {str(info.get(name))[:50]}, expected an integer; "
                "record the data set again"
            )
    return info


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**31 for size in value)


def _require_features(info: dict[str, Any], requirements: Requirements, source: str | Path) -> None:
    features, robot = info["features"], info.get("robot_type")
    if requirements.robot is not None and robot != requirements.robot:
        raise DataError(f"{source} was recorded with robot {robot!r}, expected {requirements.robot!r}")
    for key, dim in ((STATE_KEY, requirements.state_dim), (ACTION_KEY, requirements.action_dim)):
        if key not in features:
            raise DataError(f"{source} has no feature {key!r}; it has {', '.join(sorted(features))}")
        shape = tuple(features[key]["shape"])
        size = math.prod(shape)
        if key == ACTION_KEY and size > MAX_ACTION_DIM:
            raise DataError(f"{source} has {size} action dimensions, the circuit proves {MAX_ACTION_DIM}")
        if shape != (dim,):
            raise DataError(f"{source}: feature {key!r} has shape {shape}, the policy expects {(dim,)}")
    for camera in requirements.cameras:
        if camera not in features:
            found = [key for key in features if key.startswith(IMAGE_PREFIX)] or ["none"]
            raise DataError(f"{source} has no camera {camera!r}; its cameras: {', '.join(found)}")
    if not info.get("total_episodes"):
        raise DataError(f"{source} has no episodes; record some first")
    if info.get("total_frames", 0) > MAX_FRAMES:
        raise DataError(
            f"{source} has {info['total_frames']} frames, at most {MAX_FRAMES} can be kept in memory"
        )


def _require_content(recording: Recording, requirements: Requirements, source: str | Path) -> None:
    for key, block in ((STATE_KEY, recording.state), (ACTION_KEY, recording.action)):
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            raise DataError(
                f"{source}: {key!r} is NaN or infinite in {len(bad)} frames, first in frame {bad[0]} "
                f"of episode {recording.episode[bad[0]]}; remove those episodes"
            )
    require_plausible(recording.images, recording.state, recording.action)
    if (np.diff(recording.episode) < 0).any():
        raise DataError(f"{source}: episodes are not in order; record the data set again")
    for camera in requirements.cameras:
        if len(recording.images[camera]) != len(recording):
            raise DataError(
                f"{source}: camera {camera!r} has {len(recording.images[camera])} images "
                f"for {len(recording)} frames; the video is damaged"
            )


def require_plausible(images: Mapping[str, Images], state: Floats, actions: Floats) -> None:
    """Return if a policy can read such images, states and actions.

    Raises:
        DataError: an image is too small, large or narrow, or a number too large.
    """
    least, most = IMAGE_SIDES
    for camera, block in images.items():
        short, long = sorted(block.shape[1:3])
        if not least <= short <= long <= min(most, MAX_ASPECT * short):
            raise DataError(
                f"{camera!r} has images of {block.shape[2]} x {block.shape[1]}, expected sides of {least} to "
                f"{most}, one at most {MAX_ASPECT} times the other"
            )
    for key, values in ((STATE_KEY, state), (ACTION_KEY, actions)):
        largest = np.abs(values).max(initial=0)
        if not largest <= MAX_MAGNITUDE:
            raise DataError(f"{key!r} reaches {largest:g}, expected at most {MAX_MAGNITUDE:g}")


# ---- decoding


def _open_lerobot(repo_id: str, root: Path | None) -> LeRobotDataset:
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError as error:
        raise ConfigError('LeRobot is not installed; run: pip install "zk0[node]"') from error
    try:
        return LeRobotDataset(repo_id, root=root, video_backend="pyav")
    except Exception as error:  # LeRobot lets errors of six libraries through here
        where = root or f"{repo_id} (neither a folder nor readable on the Hub)"
        raise DataError(f"LeRobot cannot open {where}: {error}") from error


def _download(repo_id: str) -> Path:
    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise DataError(f"{repo_id} is neither a folder nor a data set's id on the Hub (owner/name)")
    return Path(_open_lerobot(repo_id, None).root)


def _decode(root: Path, info: dict[str, Any], requirements: Requirements, digest: Digest) -> Recording:
    logger.info("decoding %s", root)
    dataset = _open_lerobot(f"local/{root.name}", root)
    table = dataset.hf_dataset.with_format("numpy")
    try:
        tasks = dataset.meta.tasks.sort_values("task_index")
        images = {camera: _decode_camera(dataset, camera) for camera in requirements.cameras}
        return Recording(
            images=images,
            state=np.asarray(table[STATE_KEY][:], dtype=np.float32),
            action=np.asarray(table[ACTION_KEY][:], dtype=np.float32),
            episode=np.asarray(table["episode_index"][:], dtype=np.int64),
            task=np.asarray(table["task_index"][:], dtype=np.int64),
            tasks=tuple(str(words) for words in tasks.index),
            robot=str(info.get("robot_type")),
            fps=int(info["fps"]),
            digest=digest,
        )
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{root} cannot be decoded: {error}") from error


def _decode_camera(dataset: LeRobotDataset, camera: str) -> Images:
    """Return all images [T, height, width, 3] of `camera`, decoding each video once from its start."""
    if dataset.meta.features[camera]["dtype"] != "video":
        stored = dataset.hf_dataset.with_format(None)[camera]
        return np.stack([np.asarray(image.convert("RGB"), dtype=np.uint8) for image in stored])
    videos: dict[Path, Images] = {}
    parts = []
    for position in range(dataset.meta.total_episodes):
        path = Path(dataset.root) / dataset.meta.get_video_file_path(position, camera)
        if path not in videos:
            videos = {path: _decode_video(path)}  # one video at a time: they are up to 200 MB
        entry = dataset.meta.episodes[position]
        first = round(entry[f"videos/{camera}/from_timestamp"] * dataset.fps)
        parts.append(videos[path][first : first + int(entry["length"])])
    return np.concatenate(parts)


def _decode_video(path: Path) -> Images:
    import av

    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack(frames)
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"the video {path} cannot be decoded: {error}; record the data set again") from error


# ---- cache


def _save(path: Path, recording: Recording) -> None:
    stream = io.BytesIO()
    header = {
        "version": _CACHE_VERSION,
        "tasks": recording.tasks,
        "robot": recording.robot,
        "fps": recording.fps,
    }
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "state": recording.state,
        "action": recording.action,
        "episode": recording.episode,
        "task": recording.task,
        **recording.images,
    }
    np.savez_compressed(stream, **arrays)
    write_atomic(path, stream.getvalue())


def _load(path: Path, digest: Digest) -> Recording | None:
    """Return the cached recording, or None if the file is damaged or of an earlier version."""
    try:
        arrays = read_npz(path)
        header = parse_json(arrays["header"].tobytes())
        if header["version"] != _CACHE_VERSION:
            return None
        return Recording(
            images={key: array for key, array in arrays.items() if key.startswith(IMAGE_PREFIX)},
            state=arrays["state"],
            action=arrays["action"],
            episode=arrays["episode"],
            task=arrays["task"],
            tasks=tuple(header["tasks"]),
            robot=header["robot"],
            fps=header["fps"],
            digest=digest,
        )
    except (DataError, ValueError, KeyError, TypeError) as error:
        logger.warning("ignoring the damaged cache file %s: %s", path, error)
        return None
