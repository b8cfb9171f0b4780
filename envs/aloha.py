"""ALOHA: two arms hand over a cube, or put a peg into a socket (the simulator is ``gym_aloha``).

Dynamics, rewards and success are those of ``gym_aloha``, untouched. Observations have names, those
of LeRobot's recordings; actions their true bounds; and only what is observed is drawn:
``gym_aloha`` draws three cameras of 640 x 480 in every step, most of a second without a GPU.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from .checks import check_render_mode, checked_size, draws
from .errors import MissingSimulatorError
from .robosuite.args import RENDERINGS
from .robosuite.cameras import CameraRenderer

JOINTS: Final = 14
"""Six joints and a gripper of each arm, the left one first."""

TASKS: Final = {"transfer_cube": 7, "insertion": 14}
"""Numbers of the poses of the objects: positions and quaternions."""

HZ: Final = 50

_INSTALL: Final = 'install it, in the folder of the package, with: pip install ".[aloha]"'
_NOT_DRAWN: Final = np.empty(0, np.uint8)

Observation = dict[str, Any]


def _simulator_module() -> Any:
    """Import ``gym_aloha`` and return the module of its environment.

    Raises:
        MissingSimulatorError: it, dm_control or MuJoCo is missing, or they do not fit one another.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a display that is not there, which nobody needs
            return importlib.import_module("gym_aloha.env")
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise MissingSimulatorError(
            f"ALOHA needs the simulator gym-aloha, which cannot be imported ({error}); {_INSTALL} "
            "(for Python 3.11 and 3.12)"
        ) from error


class AlohaEnv(gym.Env[Observation, ArrayLike]):
    """A task of ``gym_aloha``.

    Observation: ``state`` float32 (14,), angles of the joints in radians and how far each gripper
    is open, 0 to 1, left arm first; ``environment_state`` float32, poses of the objects, (7,) of
    the cube or (14,) of peg and socket; each camera by its name, uint8 (height, width, 3), RGB.

    Action: (14,), the same joints as they are to be. It is what the controllers aim at for 1/50 s.

    Reward: how far the task has got, 0 to 4; at 4 it is solved, and the episode terminates.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": HZ}  # noqa: RUF012

    def __init__(
        self,
        task: str = "transfer_cube",
        *,
        cameras: Sequence[str] = (),
        image_height: int = 480,
        image_width: int = 640,
        rendering: str = "full",
        render_mode: str | None = None,
        render_size: int = 512,
    ) -> None:
        """Create the environment; nothing is drawn without cameras before ``render()``.

        Args:
            task: ``"transfer_cube"`` or ``"insertion"``.
            cameras: which are observed: ``"top"``, ``"angle"``, ``"front_close"``,
                ``"left_wrist"``, ``"right_wrist"``, ``"left_pillar"``, ``"right_pillar"``.
            image_height: in pixels; by default that of LeRobot's recordings.
            image_width: in pixels.
            rendering: ``"full"``, as the recordings were drawn, or ``"fast"``, without
                multisampling and reflections.
            render_mode: None or ``"rgb_array"``.
            render_size: width and height of what ``render()`` returns, in pixels.

        Raises:
            MissingSimulatorError: ``gym_aloha`` cannot be imported.
            ValueError: an argument out of its range.
        """
        check_render_mode(render_mode)
        if task not in TASKS:
            raise ValueError(f"there is no task {task!r}; expected one of {', '.join(TASKS)}")
        if rendering not in RENDERINGS:
            raise ValueError(f"rendering must be 'fast' or 'full', but it is {rendering!r}")
        self._height = checked_size("image_height", image_height)
        self._width = checked_size("image_width", image_width)
        self._size = checked_size("render_size", render_size)
        self.render_mode = render_mode
        self._simulator = _simulator_module().AlohaEnv(task=task, obs_type="pixels_agent_pos")
        self._task = self._simulator._env.task
        self._task.get_observation = self._undrawn
        names = [self._model.camera(i).name for i in range(self._model.ncam)]
        for camera in cameras:
            if camera not in names:
                raise ValueError(f"there is no camera {camera!r}; expected of {', '.join(names)}")
        self._cameras = {camera: names.index(camera) for camera in cameras}
        self._view = names.index("angle")
        self._rendering = rendering
        self._renderer: CameraRenderer | None = None
        self.action_space = self._bounds()
        self.observation_space = spaces.Dict(
            {
                "state": spaces.Box(-np.inf, np.inf, (JOINTS,), np.float32),
                "environment_state": spaces.Box(-np.inf, np.inf, (TASKS[task],), np.float32),
            }
            | {
                camera: spaces.Box(0, 255, (self._height, self._width, 3), np.uint8)
                for camera in self._cameras
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: fixes where the objects lie, as in ``gym_aloha``, and so, with the actions, all.
            options: none.

        Returns:
            The observation and the information ``success``.

        Raises:
            ValueError: an option.
        """
        if options:
            raise ValueError(f"unknown reset option {', '.join(map(repr, options))}; there is none")
        super().reset(seed=seed)
        self._simulator.reset(
            seed=int(self.np_random.integers(2**32)) if seed is None else seed % 2**32
        )
        return self._observation(), {"success": False}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Aim at angles of the joints for 1/50 s.

        Args:
            action: shape (14,); what is beyond the bounds is limited by the motors.

        Returns:
            Observation; reward, 0 to 4; terminated, whether the task is solved; truncated, always
            False (the registration limits the steps); information ``success`` (bool).

        Raises:
            ValueError: the action is not 14 finite numbers.
        """
        target = np.asarray(action, dtype=np.float64)
        if target.shape != (JOINTS,) or not np.isfinite(target).all():
            raise ValueError(f"an action must be {JOINTS} finite numbers, but it is {action!r}")
        _, reward, terminated, _, info = self._simulator.step(target)
        success = bool(info["is_success"])
        return self._observation(), float(reward), bool(terminated), False, {"success": success}

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the scene: uint8, (render_size, render_size, 3), RGB.

        Returns None without a render mode, as gymnasium's own environments do.
        """
        return self._draw(self._view, self._size, self._size) if draws(self) else None

    def close(self) -> None:
        """Release the graphics library."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    @property
    def _physics(self) -> Any:
        return self._simulator._env.physics

    @property
    def _model(self) -> Any:
        return self._physics.model.ptr

    def _undrawn(self, physics: Any) -> Mapping[str, Any]:
        """Return what ``gym_aloha`` asks its task for; images are drawn here, and only some."""
        return {"qpos": self._task.get_qpos(physics), "images": {"top": _NOT_DRAWN}}

    def _observation(self) -> Observation:
        physics = self._physics
        return {
            "state": np.asarray(self._task.get_qpos(physics), np.float32),
            "environment_state": np.asarray(self._task.get_env_state(physics), np.float32),
        } | {
            camera: self._draw(number, self._height, self._width)
            for camera, number in self._cameras.items()
        }

    def _bounds(self) -> spaces.Box:
        """Return the bounds of the motors; ``gym_aloha`` says -1 to 1, which people went beyond."""
        # A gripper has two motors, which are told the same number, 0 to 1.
        low, high = self._model.actuator_ctrlrange.T.astype(np.float32)
        low, high = np.delete(low, [7, 15]), np.delete(high, [7, 15])
        low[[6, 13]], high[[6, 13]] = 0, 1
        return spaces.Box(low, high, dtype=np.float32)

    def _draw(self, camera: int, height: int, width: int) -> NDArray[np.uint8]:
        if self._renderer is None:
            largest = self._size if self.render_mode is not None else 0
            self._renderer = CameraRenderer(
                self._rendering, width=max(largest, self._width), height=max(largest, self._height)
            )
        return self._renderer.draw_model(self._model, self._physics.data.ptr, camera, height, width)
