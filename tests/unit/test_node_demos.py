"""Variants and the errors that need no simulator."""

from __future__ import annotations

import importlib.util

import pytest

from zk0_node import demos, scene
from zk0_proofs.errors import ConfigError


def test_three_nodes_differ_in_everything_that_homes_differ_in():
    tasks = list(demos.VARIANTS.values())
    assert len({task.words for task in tasks}) == len(tasks) == 3
    assert len({task.look.camera for task in tasks}) == 3
    assert len({task.look.workspace for task in tasks}) == 3


def test_public_episodes_vary_and_avoid_the_nodes_colours():
    drawn = [demos.variant(demos.PUBLIC, seed) for seed in range(60)]
    cubes = {task.look.cube for task in drawn}
    assert len({task.look.camera for task in drawn}) == 60
    assert len({task.words for task in drawn}) > 10
    assert {task.reach_only for task in drawn} == {True, False}
    assert not cubes & {task.look.cube for task in demos.VARIANTS.values()}
    assert all(task.look.cube != task.look.goal for task in drawn)
    assert demos.variant(demos.PUBLIC, 7) == drawn[7]


def test_unknown_variant_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="no variant 'fold-laundry'; choose one of red-to-green"):
        demos.variant("fold-laundry", 0)


def test_no_episodes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot record 0 episodes"):
        demos.record("public", 0, tmp_path / "out")


def test_missing_simulator_names_the_extra(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r'pip install "zk0\[record\]"'):
        scene.Scene()


def test_missing_opengl_names_the_packages(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(scene.sys, "platform", "linux")
    monkeypatch.setattr(scene.ctypes.util, "find_library", lambda _name: None)
    with pytest.raises(ConfigError, match="apt-get install libegl1"):
        scene.Scene()
