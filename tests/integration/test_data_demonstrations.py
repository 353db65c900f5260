"""The shipped demonstrations and the recorder, read back by LeRobot."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from zk0_node import demos
from zk0_node.data import Requirements, open_recording, split_episodes
from zk0_node.scene import JOINTS
from zk0_proofs.errors import ConfigError, DataError

DEMONSTRATIONS = Path(__file__).parents[2] / "demonstrations"
REQUIREMENTS = Requirements(cameras=(demos.CAMERA_KEY,), state_dim=6, action_dim=6)


@pytest.mark.parametrize("name", demos.NAMES)
def test_shipped_set_serves_a_node(name):
    recording = open_recording(DEMONSTRATIONS / name, REQUIREMENTS)
    split = split_episodes(recording, 0.15)
    assert recording.num_episodes == demos.shipped_episodes(name)
    assert len(split.held_out) >= 256
    assert np.abs(np.diff(recording.state, axis=0)[np.diff(recording.episode) == 0]).max() < 60
    expected = {demos.VARIANTS[name].words} if name in demos.VARIANTS else set(recording.tasks)
    assert set(recording.tasks) == expected


def test_shipped_sets_are_small():
    files = [path for path in DEMONSTRATIONS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000


def test_sequential_decoding_equals_lerobots_random_access():
    root = DEMONSTRATIONS / "reach-orange"
    recording = open_recording(root, REQUIREMENTS)
    dataset = LeRobotDataset("zk0/reach-orange", root=root, video_backend="pyav")
    for frame in (0, 20, 1234, len(recording) - 1):
        item = dataset[frame]
        image = (item[demos.CAMERA_KEY] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.abs(image.astype(int) - recording.images[demos.CAMERA_KEY][frame]).max() <= 1
        assert (item["observation.state"].numpy() == recording.state[frame]).all()
        assert (item["action"].numpy() == recording.action[frame]).all()
        assert int(item["episode_index"]) == recording.episode[frame]
        assert item["task"] == recording.tasks[recording.task[frame]]


def test_recorded_cache_is_used_and_damaged_video_refused(tmp_path):
    import shutil

    root = tmp_path / "set"
    shutil.copytree(DEMONSTRATIONS / "public", root)
    first = open_recording(root, REQUIREMENTS, tmp_path / "cache")
    again = open_recording(root, REQUIREMENTS, tmp_path / "cache")
    assert (first.images[demos.CAMERA_KEY] == again.images[demos.CAMERA_KEY]).all()
    video = next(root.glob("videos/**/*.mp4"))
    video.write_bytes(video.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be decoded"):
        open_recording(root, REQUIREMENTS, tmp_path / "cache")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("recorded")
    try:
        return demos.record("reach-orange", 2, root / "first", seed=3), root
    except ConfigError as error:
        pytest.skip(str(error))


def test_recording_is_a_lerobot_dataset_of_the_so101(recorded):
    recording = open_recording(recorded[0], REQUIREMENTS)
    dataset = LeRobotDataset("zk0/recorded", root=recorded[0], video_backend="pyav")
    assert recording.num_episodes == 2
    assert recording.robot == dataset.meta.robot_type == "so101_follower"
    assert dataset.fps == 10
    assert dataset.meta.features["action"]["names"] == [f"{joint}.pos" for joint in JOINTS]
    # Commands run ahead of the joints: a second later the joints are where the commands were.
    first = recording.episode == 0
    lag = np.abs(recording.state[first][3:] - recording.action[first][:-3]).mean()
    assert lag < np.abs(recording.state[first] - recording.state[first][0]).mean()


def test_recording_leaves_the_process_its_priority(recorded):
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_equal_seeds_record_equal_motions(recorded):
    again = demos.record("reach-orange", 2, recorded[1] / "second", seed=3)
    first, second = (open_recording(root, REQUIREMENTS) for root in (recorded[0], again))
    assert (first.state == second.state).all()
    assert (first.action == second.action).all()


def test_recording_over_an_existing_folder_is_refused(recorded):
    with pytest.raises(ConfigError, match="exists; choose another folder"):
        demos.record("reach-orange", 1, recorded[0])


def test_interrupted_recording_leaves_nothing_behind(recorded, monkeypatch):
    def fail(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(demos, "demonstrate", fail)
    with pytest.raises(KeyboardInterrupt):
        demos.record("reach-orange", 1, recorded[1] / "third")
    assert not list(recorded[1].glob("*third*"))


def test_replayed_joint_targets_do_the_task(recorded):
    scene = demos.Scene()
    task = demos.VARIANTS["red-to-green"]
    frames = demos.demonstrate(scene, task, 5)
    scene.reset(task.look, 5)
    assert any(scene.step_joints(frame.action) for frame in frames)
    scene.close()


def test_variant_that_always_fails_ends_with_an_error(recorded, monkeypatch):
    monkeypatch.setattr(demos, "demonstrate", lambda *_arguments: None)
    with pytest.raises(DataError, match="11 scripted episodes of public failed in a row"):
        demos.record("public", 1, recorded[1] / "fourth")
