"""Data sets: what is refused and why, the split, samples and their digests, the cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from zk0_node.data import (  # the cache has no other door
    Recording,
    Requirements,
    _cameras_tag,
    _load,
    _save,
    files_digest,
    open_recording,
    sample_bytes,
    sample_digest,
    split_episodes,
)
from zk0_proofs.errors import ConfigError, DataError
from zk0_proofs.types import Digest

CAMERA = "observation.images.front"
REQUIREMENTS = Requirements(cameras=(CAMERA,), state_dim=6, action_dim=6)
INFO = {
    "codebase_version": "v3.0",
    "robot_type": "so101_follower",
    "total_episodes": 4,
    "total_frames": 400,
    "fps": 10,
    "features": {
        CAMERA: {"dtype": "video", "shape": [8, 8, 3]},
        "observation.state": {"dtype": "float32", "shape": [6]},
        "action": {"dtype": "float32", "shape": [6]},
    },
}


def recording(episodes: int = 4, length: int = 100, **changes) -> Recording:
    rng = np.random.default_rng(1)
    frames = episodes * length
    made = Recording(
        images={CAMERA: rng.integers(0, 255, (frames, 8, 8, 3), dtype=np.uint8)},
        state=rng.normal(size=(frames, 6)).astype(np.float32),
        action=np.repeat(np.arange(frames, dtype=np.float32)[:, None], 6, axis=1),
        episode=np.repeat(np.arange(episodes), length),
        task=np.repeat(np.arange(episodes) % 2, length),
        tasks=("pick", "place"),
        robot="so101_follower",
        fps=10,
        digest=Digest(bytes(32)),
    )
    return dataclasses.replace(made, **changes)


def dataset(root: Path, **changes) -> Path:
    """Write the metadata of a data set whose decoded copy is in the cache, so that nothing is decoded."""
    info = json.loads(json.dumps(INFO))
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = info
        for name in parents:
            target = target[name]
        if value is None:
            del target[last]
        else:
            target[last] = value
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


def cached(root: Path, cache: Path, made: Recording) -> None:
    digest = files_digest(root, ("data", "meta", "videos"))
    _save(cache / f"{digest.hex()}-{_cameras_tag(REQUIREMENTS)}.npz", made)


def test_cached_recording_comes_back_whole(tmp_path):
    made = recording()
    cached(dataset(tmp_path / "set"), tmp_path / "cache", made)
    opened = open_recording(tmp_path / "set", REQUIREMENTS, tmp_path / "cache")
    assert opened.digest == files_digest(tmp_path / "set", ("data", "meta", "videos"))
    assert (opened.images[CAMERA] == made.images[CAMERA]).all()
    assert (opened.action == made.action).all()
    assert (opened.tasks, opened.robot, opened.fps) == (made.tasks, made.robot, made.fps)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", b"no archive at all"])
def test_damaged_cache_is_ignored(tmp_path, damage):
    path = tmp_path / "cache.npz"
    path.write_bytes(damage)
    assert _load(path, Digest(bytes(32))) is None


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"codebase_version": "v2.1"}, "version v2.1, expected v3"),
        ({"codebase_version": None}, "not a LeRobot data set"),
        ({"robot_type": "aloha"}, "recorded with robot 'aloha', expected 'so101_follower'"),
        ({"features__action": None}, "no feature 'action'"),
        ({"features__action__shape": [7]}, "7 action dimensions, the circuit proves 6"),
        ({"features__action__shape": [5]}, r"shape \(5,\), the policy expects \(6,\)"),
        ({"features__action__shape": None}, "features without shapes"),
        ({"features__observation.state__shape": [12]}, r"shape \(12,\), the policy expects \(6,\)"),
        ({f"features__{CAMERA}": None}, "no camera 'observation.images.front'; its cameras: none"),
        ({"total_episodes": 0}, "no episodes"),
        ({"total_frames": 10**7}, "10000000 frames, at most"),
    ],
)
def test_dataset_that_cannot_serve_is_refused_before_decoding(tmp_path, changes, match):
    with pytest.raises(DataError, match=match):
        open_recording(dataset(tmp_path / "set", **changes), REQUIREMENTS)


def test_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"not a LeRobot data set: meta/info.json is missing"):
        open_recording(tmp_path, REQUIREMENTS)


def test_broken_metadata_is_refused(tmp_path):
    dataset(tmp_path / "set")
    (tmp_path / "set" / "meta" / "info.json").write_text("[1, 2")
    with pytest.raises(DataError, match="not a LeRobot data set"):
        open_recording(tmp_path / "set", REQUIREMENTS)


@pytest.mark.parametrize("source", ["no-such-folder", "../data/a", "/nowhere/set", "a/b/c"])
def test_source_that_is_neither_folder_nor_hub_id_is_refused(source):
    with pytest.raises(DataError, match="neither a folder nor a data set's id"):
        open_recording(source, REQUIREMENTS)


@pytest.mark.parametrize("field", ["state", "action"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_the_recording_is_refused_with_its_place(tmp_path, field, value):
    block = getattr(recording(), field).copy()
    block[250, 2] = value
    cached(dataset(tmp_path / "set"), tmp_path / "cache", recording(**{field: block}))
    with pytest.raises(
        DataError, match=f"{field}' is NaN or infinite in 1 frames, first in frame 250 of episode 2"
    ):
        open_recording(tmp_path / "set", REQUIREMENTS, tmp_path / "cache")


def test_video_shorter_than_the_recording_is_refused(tmp_path):
    short = {CAMERA: recording().images[CAMERA][:399]}
    cached(dataset(tmp_path / "set"), tmp_path / "cache", recording(images=short))
    with pytest.raises(DataError, match="399 images for 400 frames"):
        open_recording(tmp_path / "set", REQUIREMENTS, tmp_path / "cache")


# ---- split


def test_split_keeps_episodes_whole_and_apart():
    made = recording(episodes=20)
    split = split_episodes(made, 0.15)
    held_out = set(made.episode[split.held_out])
    assert len(held_out) == 3
    assert not held_out & set(made.episode[split.train])
    assert len(split.train) + len(split.held_out) == len(made)


def test_later_episodes_move_no_earlier_one():
    before = split_episodes(recording(episodes=20), 0.3)
    after = split_episodes(recording(episodes=27), 0.3)
    assert before.held_out.tolist() == [i for i in after.held_out.tolist() if i < 2000]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        split_episodes(recording(), fraction)


def test_no_held_out_episode_is_refused():
    with pytest.raises(DataError, match="no episode is held out of 4"):
        split_episodes(recording(), 0.1)


def test_too_few_held_out_samples_are_refused():
    with pytest.raises(DataError, match="100 distinct held-out samples, a shard needs 256"):
        split_episodes(recording(), 0.25)


def test_repeated_frames_do_not_count_as_distinct():
    still = recording(episodes=4, length=300)
    for block in (still.state, still.action, *still.images.values()):
        block[:] = block[0]
    with pytest.raises(DataError, match="1 distinct"):
        split_episodes(dataclasses.replace(still, task=np.zeros(1200, dtype=np.int64)), 0.25)


# ---- samples


def test_chunk_stops_at_the_episodes_end():
    samples = recording().samples(np.array([0, 95, 99, 100]), 10)
    assert samples.valid.tolist() == [10, 5, 1, 10]
    assert samples.actions[1, :, 0].tolist() == [95, 96, 97, 98, 99, 99, 99, 99, 99, 99]
    assert samples.actions[2, :, 0].tolist() == [99] * 10
    assert samples.words == ("pick", "pick", "pick", "place")


def test_every_part_of_a_sample_enters_its_digest():
    samples = recording().samples(np.array([3, 4]), 10)
    salt = bytes(32)
    digests = {
        sample_digest(samples, 0, salt),
        sample_digest(samples, 1, salt),
        sample_digest(samples, 0, b"\1" * 32),
    }
    for name in ("state", "actions", "valid"):
        changed = getattr(samples, name).copy()
        changed[0] += 1
        digests.add(sample_digest(dataclasses.replace(samples, **{name: changed}), 0, salt))
    pixels = samples.images[CAMERA].copy()
    pixels[0, 3, 3, 1] ^= 1
    digests.add(sample_digest(dataclasses.replace(samples, images={CAMERA: pixels}), 0, salt))
    digests.add(sample_digest(dataclasses.replace(samples, words=("drop", "pick")), 0, salt))
    assert len(digests) == 8


def test_sample_bytes_do_not_depend_on_the_batch():
    made = recording()
    assert sample_bytes(made.samples(np.array([7]), 5), 0) == sample_bytes(
        made.samples(np.array([1, 7]), 5), 1
    )
