"""Meta-World's 50 tasks: a Sawyer arm at a table, the same observations and actions in all of them.

The dynamics, starts and successes are those of ``metaworld`` 3 (tasks ``*-v3``). What differs: the
observation has names, the goal is seen, an episode ends with success, and its seed says all of it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ..checks import check_render_mode, checked_size, draws, reset_option, version_numbers
from ..errors import MissingSimulatorError
from .tasks import CAMERAS, MT50

_INSTALL: Final = 'install it, in the folder of the package, with: pip install ".[metaworld]"'
_OBSERVED: Final = {"hand": 4, "objects": 14, "goal": 3}
_GOAL: Final = 36

Observation = dict[str, Any]


def import_metaworld() -> tuple[Any, Any]:
    """Return the modules with the environments and with the experts of ``metaworld``.

    Raises:
        MissingSimulatorError: it or MuJoCo is missing, or it is too old.
    """
    try:
        environments = importlib.import_module("metaworld.env_dict")
        experts = importlib.import_module("metaworld.policies")
        version = importlib.metadata.version("metaworld")
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        # MuJoCo looks for the chosen rendering library at once and fails in many ways.
        raise MissingSimulatorError(
            f"Meta-World needs the simulator metaworld, which cannot be imported ({error}); "
            + _INSTALL
        ) from error
    if version_numbers(version) < (3,):
        raise MissingSimulatorError(
            f"Meta-World needs metaworld 3 (older ones have other tasks), but {version} is "
            'installed; repair it with: pip install "metaworld>=3.1,<4"'
        )
    return environments, experts


class MetaWorldEnv(gym.Env[Observation, ArrayLike]):
    """One task of Meta-World.

    Observation, float32, in metres and quaternions: ``hand`` (4,), position of the hand and how far
    its gripper is open (0 to 1); ``objects`` (14,), position and orientation of up to two objects,
    zeros where there is none; ``goal`` (3,). Together they are the newest frame of Meta-World's own
    39 numbers, whose other frame is the history of a policy. Of each camera ``<camera>_image``,
    uint8 (image_size, image_size, 3), RGB, the first row at the top.

    Action: 4 numbers from -1 to 1, the change of the hand's goal (1 is 1 cm) and the gripper
    (-1 opens, 1 closes).

    Attributes:
        simulator: the environment of metaworld.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012

    def __init__(
        self,
        task: str = "reach-v3",
        *,
        cameras: Sequence[str] = (),
        image_size: int = 84,
        render_mode: str | None = None,
        render_size: int = 512,
    ) -> None:
        """Create the environment; without cameras nothing is drawn before ``render()``.

        Args:
            task: one of `MT50`.
            cameras: whose images are observed, such as ``corner4`` or ``gripperPOV``.
            image_size: their width and height in pixels.
            render_mode: None or ``"rgb_array"``.
            render_size: width and height of what ``render()`` returns, in pixels.

        Raises:
            MissingSimulatorError: metaworld is missing or too old.
            ValueError: an argument out of its range.
        """
        check_render_mode(render_mode)
        if task not in MT50:
            raise ValueError(f"there is no task {task!r}; expected one of {', '.join(MT50)}")
        self.render_mode = render_mode
        self._image_size = checked_size("image_size", image_size)
        self._render_size = checked_size("render_size", render_size)
        self._cameras = tuple(cameras)
        self._renderer: Any = None
        environments, _ = import_metaworld()
        simulator = environments.ALL_V3_ENVIRONMENTS[task]()
        # The goal is seen, and every episode draws its start. The space has been computed already.
        simulator._partially_observable = False
        del simulator.sawyer_observation_space
        simulator._freeze_rand_vec, simulator.seeded_rand_vec = False, True
        simulator._set_task_called = True
        simulator.max_path_length = np.inf  # the registration limits the steps
        self.simulator = simulator
        self._fresh = _model_arrays(simulator.model)
        for camera in self._cameras:
            self._camera_number(camera)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        numbers = {
            key: spaces.Box(-np.inf, np.inf, (size,), np.float32) for key, size in _OBSERVED.items()
        }
        size = (image_size, image_size, 3)
        images = {f"{name}_image": spaces.Box(0, 255, size, np.uint8) for name in self._cameras}
        self.observation_space = spaces.Dict({**numbers, **images})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: determines it, whatever was before.
            options: ``{"hand": (3,)}`` adds to where the hand starts, in metres.

        Returns:
            The observation and the information ``success``.
        """
        offset = reset_option(options, "hand")
        super().reset(seed=seed)
        simulator = self.simulator
        # What an episode moves in the model would otherwise be there in the next one.
        for name, values in self._fresh.items():
            getattr(simulator.model, name)[:] = values
        importlib.import_module("mujoco").mj_resetData(simulator.model, simulator.data)
        simulator.np_random = self.np_random
        simulator.curr_path_length = 0
        self._state = np.array(simulator.reset_model())
        if offset is not None:
            self._displace(np.asarray(offset, dtype=np.float64))
        simulator._prev_obs = self._state[:18].copy()
        self._state[18:_GOAL] = simulator._prev_obs
        return self._observe(), {"success": False}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for 1/80 s.

        Args:
            action: (4,); numbers beyond -1 and 1 are clipped.

        Returns:
            Observation; reward, that of Meta-World, 0 to 10; terminated, whether the task is
            solved; truncated, always False (the registration limits the steps); information
            ``success`` (bool). An episode can be continued after success.

        Raises:
            ValueError: the action has another shape or is not finite.
        """
        given = np.asarray(action, dtype=np.float32)
        if given.shape != (4,) or not np.isfinite(given).all():
            raise ValueError(f"an action must be 4 finite numbers, but it is {action!r}")
        self._state, reward, _, _, info = self.simulator.step(np.clip(given, -1, 1))
        success = bool(info["success"])
        return self._observe(), float(reward), success, False, {"success": success}

    @property
    def state(self) -> NDArray[np.float64]:
        """What Meta-World's experts are given: its own observation, (39,)."""
        return self._state.copy()

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the scene: uint8, (render_size, render_size, 3), RGB.

        Returns None without a render mode, as gymnasium's own environments do.
        """
        return self._draw(CAMERAS[0], self._render_size) if draws(self) else None

    def close(self) -> None:
        """Release the simulator and the graphics library."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.simulator.close()

    def _displace(self, offset: NDArray[np.float64]) -> None:
        """Let the hand go somewhere else before the episode begins."""
        simulator = self.simulator
        goal = np.clip(
            simulator.data.mocap_pos[0] + offset, simulator.mocap_low, simulator.mocap_high
        )
        for _ in range(30):
            simulator.set_xyz_action((goal - simulator.data.mocap_pos[0]) * 20)
            simulator.do_simulation([-1, 1], simulator.frame_skip)
        self._state = np.array(simulator._get_obs())

    def _observe(self) -> Observation:
        state = self._state.astype(np.float32)
        images = {f"{name}_image": self._draw(name, self._image_size) for name in self._cameras}
        return {"hand": state[:4], "objects": state[4:18], "goal": state[_GOAL:], **images}

    def _camera_number(self, name: str) -> int:
        names = [self.simulator.model.camera(i).name for i in range(self.simulator.model.ncam)]
        if name not in names:
            raise ValueError(f"there is no camera '{name}'; this scene has: {', '.join(names)}")
        return names.index(name)

    def _draw(self, camera: str, size: int) -> NDArray[np.uint8]:
        if self._renderer is None:
            from ..robosuite.cameras import CameraRenderer

            largest = max(self._render_size if self.render_mode else 0, self._image_size)
            self._renderer = CameraRenderer("fast", width=largest, height=largest)
        model, data = self.simulator.model, self.simulator.data
        number = self._camera_number(camera)
        image: NDArray[np.uint8] = self._renderer.draw_model(model, data, number, size, size)
        # Meta-World's cameras in the corners are mounted upside down.
        if camera.startswith("corner") and data.cam_xmat[number].reshape(3, 3)[2, 1] < 0:
            return image[::-1, ::-1].copy()
        return image


def _model_arrays(model: Any) -> dict[str, NDArray[np.float64]]:
    """Return copies of what Meta-World's episodes move in a model."""
    names = ("body_pos", "body_quat", "site_pos", "geom_pos")
    return {name: getattr(model, name).copy() for name in names}
