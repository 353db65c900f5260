"""Scripted SO-101 demonstrations, written as LeRobot data sets.

Three node variants differ in colours, camera, workspace and words, as three homes would. The `public`
variant draws a new combination for each episode and avoids the nodes' colours; the public base policy is
trained on it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from zk0_proofs.errors import ConfigError, DataError

from .scene import ACTION_SCALE, FPS, IMAGE_SIZE, JOINTS, Colour, Look, Scene

if TYPE_CHECKING:
    from av.video.stream import VideoStream
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

CAMERA_KEY = "observation.images.front"
ROBOT_TYPE = "so101_follower"
VIDEO_OPTIONS = {"g": str(2 * FPS), "crf": "34", "preset": "6"}
"""Key frames every two seconds and AV1 quality; LeRobot's own settings make files twice as large."""
MAX_STEPS = 200
"""Steps after which a scripted episode counts as failed; a median one takes 53."""
MAX_FAILURES = 10
"""Failed episodes in a row before recording stops: the variant is out of the arm's reach."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One control step of a demonstration."""

    state: npt.NDArray[np.float32]
    """[6] joint positions, degrees."""
    action: npt.NDArray[np.float32]
    """[6] commanded joint positions, degrees."""
    image: npt.NDArray[np.uint8]
    """[IMAGE_SIZE, IMAGE_SIZE, 3]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A task as one node performs it."""

    look: Look
    words: str
    reach_only: bool = False
    """The episode ends when the gripper closes on the cube."""
    episodes: int
    """Size of the shipped set; reach episodes are short, so more of them give as many held-out frames."""


_COLOURS: dict[str, Colour] = {
    "red": (0.9, 0.1, 0.1),
    "blue": (0.1, 0.2, 0.9),
    "orange": (0.9, 0.6, 0.1),
    "green": (0.1, 0.8, 0.1),
    "yellow": (0.9, 0.8, 0.1),
    "purple": (0.6, 0.1, 0.8),
    "white": (0.9, 0.9, 0.9),
    "cyan": (0.1, 0.8, 0.9),
    "pink": (0.9, 0.4, 0.6),
    "black": (0.1, 0.1, 0.1),
}
_PUBLIC_COLOURS = ("white", "cyan", "pink", "black")

VARIANTS: dict[str, Variant] = {
    "red-to-green": Variant(
        look=Look(
            cube=_COLOURS["red"],
            goal=_COLOURS["green"],
            camera=(0.55, 0.0, 0.45),
            workspace=((0.15, -0.10), (0.30, 0.02)),
        ),
        words="put the red cube on the green spot",
        episodes=60,
    ),
    "blue-to-yellow": Variant(
        look=Look(
            cube=_COLOURS["blue"],
            goal=_COLOURS["yellow"],
            camera=(0.50, 0.15, 0.50),
            workspace=((0.15, -0.02), (0.30, 0.10)),
        ),
        words="put the blue cube on the yellow spot",
        episodes=60,
    ),
    "reach-orange": Variant(
        look=Look(
            cube=_COLOURS["orange"],
            goal=_COLOURS["purple"],
            camera=(0.45, -0.20, 0.45),
            workspace=((0.15, -0.10), (0.30, 0.10)),
        ),
        words="reach the orange cube",
        reach_only=True,
        episodes=140,
    ),
}
PUBLIC = "public"
PUBLIC_EPISODES = 70
NAMES = (*VARIANTS, PUBLIC)


def shipped_episodes(name: str) -> int:
    """Return how many episodes the shipped set of variant `name` has."""
    return PUBLIC_EPISODES if name == PUBLIC else VARIANTS[name].episodes


def variant(name: str, seed: int) -> Variant:
    """Return variant `name`; for `public`, the combination that `seed` draws.

    Raises:
        ConfigError: there is no such variant.
    """
    if name == PUBLIC:
        return _public_variant(np.random.default_rng([seed, 1]))
    if name not in VARIANTS:
        raise ConfigError(f"there is no variant {name!r}; choose one of {', '.join(NAMES)}")
    return VARIANTS[name]


def _public_variant(rng: np.random.Generator) -> Variant:
    cube, goal = rng.choice(_PUBLIC_COLOURS, size=2, replace=False)
    reach_only = bool(rng.random() < 0.35)
    look = Look(
        cube=_COLOURS[cube],
        goal=_COLOURS[goal],
        camera=(rng.uniform(0.45, 0.55), rng.uniform(-0.2, 0.2), rng.uniform(0.43, 0.52)),
        workspace=((0.15, -0.10), (0.30, 0.10)),
    )
    words = f"reach the {cube} cube" if reach_only else f"put the {cube} cube on the {goal} spot"
    return Variant(look=look, words=words, reach_only=reach_only, episodes=1)


def demonstrate(scene: Scene, task: Variant, seed: int) -> list[Frame] | None:
    """Return one scripted episode, or None if the script failed."""
    from lerobot_env_so101.scripted.pick_place import Phase, PickPlaceController

    scene.reset(task.look, seed)
    controller = PickPlaceController(action_scale=ACTION_SCALE)
    frames: list[Frame] = []
    succeeded = False
    for _ in range(MAX_STEPS):
        state, image = scene.joints(), scene.image()
        action = controller.act(scene.gripper_position, scene.cube_position, scene.goal_position)
        success, ended = scene.step_gripper(action)
        frames.append(Frame(state=state, action=scene.joint_targets(), image=image))
        succeeded = succeeded or success
        if task.reach_only and controller.phase is Phase.CLOSE:
            return frames
        if controller.done or ended:
            break
    return frames if succeeded else None


def record(name: str, episodes: int, root: Path, seed: int = 0, *, progress: Progress | None = None) -> Path:
    """Record `episodes` successful demonstrations of variant `name` as a LeRobotDataset v3 in `root`.

    A failed or interrupted recording leaves no `root` behind. Equal arguments give equal states and actions.

    Raises:
        ConfigError: unknown variant, `root` exists, or the simulator, OpenGL or LeRobot is missing.
        DataError: the script keeps failing.
    """
    if episodes < 1:
        raise ConfigError(f"cannot record {episodes} episodes; ask for at least 1")
    variant(name, seed)
    with _new_dataset(name, root) as dataset:
        scene = Scene()
        try:
            for done, (task, frames) in enumerate(_episodes(scene, name, episodes, seed), 1):
                for frame in frames:
                    dataset.add_frame(
                        {
                            CAMERA_KEY: frame.image,
                            "observation.state": frame.state,
                            "action": frame.action,
                            "task": task.words,
                        }
                    )
                with _own_priority():
                    dataset.save_episode()
                if progress is not None:
                    progress(done, episodes)
        finally:
            scene.close()
    logger.info("recorded %d episodes of %s in %s", episodes, name, root)
    return root


def _episodes(scene: Scene, name: str, episodes: int, seed: int) -> Iterator[tuple[Variant, list[Frame]]]:
    found, failures = 0, 0
    draws = np.random.default_rng([seed, *name.encode()])
    while found < episodes:
        episode_seed = int(draws.integers(2**31))
        task = variant(name, episode_seed)
        frames = demonstrate(scene, task, episode_seed)
        if frames is None:
            failures += 1
            if failures > MAX_FAILURES:
                raise DataError(
                    f"{failures} scripted episodes of {name} failed in a row; check its workspace"
                )
            continue
        found, failures = found + 1, 0
        yield task, frames


@contextmanager
def _new_dataset(name: str, root: Path) -> Iterator[LeRobotDataset]:
    os.environ.setdefault("SVT_LOG", "1")  # the encoder would print its settings for every episode
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError as error:
        raise ConfigError('LeRobot is not installed; run: pip install "zk0[record]"') from error
    if root.exists():
        raise ConfigError(f"{root} exists; choose another folder, or remove it to record again")
    joint_names = [f"{joint}.pos" for joint in JOINTS]
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    dataset = LeRobotDataset.create(
        f"zk0/{name}",
        fps=FPS,
        root=partial,
        robot_type=ROBOT_TYPE,
        features={
            CAMERA_KEY: {
                "dtype": "video",
                "shape": (IMAGE_SIZE, IMAGE_SIZE, 3),
                "names": ["height", "width", "channels"],
            },
            "observation.state": {"dtype": "float32", "shape": (len(JOINTS),), "names": joint_names},
            "action": {"dtype": "float32", "shape": (len(JOINTS),), "names": joint_names},
        },
        use_videos=True,
    )
    try:
        yield dataset
        dataset.finalize()
        for video in partial.glob("videos/**/*.mp4"):
            with _own_priority():
                _compress(video)
        shutil.rmtree(partial / "images", ignore_errors=True)  # frames before encoding: now empty folders
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _own_priority() -> Iterator[None]:
    """Keep the process's scheduling while a video is encoded.

    Run by root, SVT-AV1 gives its caller real-time priority for good, and all else on the machine starves.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _compress(video: Path) -> None:
    """Encode `video` again, smaller, keeping every frame and its time."""
    import av

    smaller = video.with_suffix(".smaller.mp4")
    with av.open(str(video)) as source, av.open(str(smaller), "w") as target:
        stream = cast("VideoStream", target.add_stream("libsvtav1", rate=FPS, options=VIDEO_OPTIONS))
        stream.width = stream.height = IMAGE_SIZE
        stream.pix_fmt = "yuv420p"
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    smaller.chmod(0o644)
    os.replace(smaller, video)
