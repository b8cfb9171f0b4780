"""Manipulation tasks of robosuite as gymnasium environments, with robomimic's observations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ..checks import check_render_mode, checked_size, draws, reset_option
from ..errors import EnvArgsError
from .absolute_actions import ABSOLUTE_DIM, absolute_env_kwargs, to_controller
from .args import RENDERINGS, read_description, with_images
from .cameras import CameraRenderer, camera_number
from .observations import observations_of
from .simulator import import_robosuite, seeded
from .tasks import CONTROL_FREQUENCY, TASKS, default_env_args, task_of

Observation = dict[str, Any]


class RobosuiteEnv(gym.Env[Observation, ArrayLike]):
    """A robosuite task; observations, images and states are those of robomimic's wrapper.

    Observation: ``object`` (what robosuite calls ``object-state``) and, for every robot,
    ``robot0_eef_pos``, ``robot0_eef_quat``, ``robot0_gripper_qpos``, ``robot0_joint_pos`` and so
    on, float32 vectors in metres, radians and quaternions x, y, z, w; of each camera
    ``<camera>_image``, uint8 (image_size, image_size, 3), RGB, the first row at the top.

    An observation depends on the state of the simulation alone, so that the one of a step is the
    one recorded for that state. (robosuite's own are those of the beginning of the step, and it
    computes relative poses from the observation before.)

    Action: per arm 7 numbers from -1 to 1, the change of position (1 is 5 cm) and of orientation
    (axis-angle, 1 is 0.5 rad) in the world's axes, and the gripper (-1 opens, 1 closes). With
    ``absolute_actions``, 10 numbers: where the gripper shall be, see
    :mod:`lfm_envs.robosuite.absolute_actions`.

    Every episode starts from the model and the state that :meth:`state` returns after ``reset``,
    set as recordings are: who sets them again and repeats the actions gets the same states, to the
    bit.

    Attributes:
        simulator: the environment of robosuite; stepping it directly gives no new observations.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_FREQUENCY,
    }

    def __init__(
        self,
        task: str | None = None,
        *,
        env_args: Mapping[str, Any] | str | None = None,
        cameras: Sequence[str] | None = None,
        image_size: int | None = None,
        absolute_actions: bool = False,
        rendering: str | None = None,
        render_mode: str | None = None,
        render_size: int = 512,
    ) -> None:
        """Create the environment; without cameras nothing is drawn before ``render()``.

        Args:
            task: ``"Lift"``, ``"Can"``, ``"Square"``, ``"ToolHang"`` or ``"Transport"``; by default
                what ``env_args`` say, or else Lift.
            env_args: description of an environment as in a robomimic file, parsed or as JSON; by
                default that of the task.
            cameras: whose images are observed; by default those of ``env_args``.
            image_size: their width and height in pixels; by default those of ``env_args``, or 84.
            absolute_actions: whether actions are goals in the world instead of changes; the rest
                of the description stays as it is.
            rendering: ``"fast"`` (no multisampling, no reflections) or ``"full"`` (as robosuite);
                by default what ``env_args`` say, or else fast.
            render_mode: None or ``"rgb_array"``.
            render_size: width and height of what ``render()`` returns, in pixels.

        Raises:
            MissingSimulatorError: robosuite or MuJoCo is missing or has the wrong version.
            EnvArgsError: ``env_args`` cannot be used.
            ValueError: another argument out of its range.

        Warns:
            TranslatedEnvArgsWarning: ``env_args`` are those of another version of robosuite.
        """
        check_render_mode(render_mode)
        if rendering not in (None, *RENDERINGS):
            raise ValueError(f"rendering must be 'fast' or 'full', but it is {rendering!r}")
        if task is not None and task not in TASKS:
            raise ValueError(f"there is no task {task!r}; expected one of {', '.join(TASKS)}")
        self.render_mode = render_mode
        self._version: str = import_robosuite().__version__
        if env_args is None:
            env_args = default_env_args(task or "Lift")
        description = read_description(env_args, self._version)
        if task is not None and description.env_name != TASKS[task].env_name:
            raise EnvArgsError(
                f"env_args describe '{description.env_name}'; expected "
                f"'{TASKS[task].env_name}', because the task is {task}"
            )
        if rendering is not None:
            description = replace(description, rendering=rendering)
        self._render_size = checked_size("render_size", render_size)
        self._description = with_images(description, cameras, image_size)
        kwargs = self._description.kwargs
        self._cameras = tuple(kwargs.get("camera_names", ()))
        self._height, self._width = kwargs["camera_heights"], kwargs["camera_widths"]
        rate = kwargs.get("control_freq", CONTROL_FREQUENCY)
        self.metadata = {**self.metadata, "render_fps": rate}
        known = task_of(description.env_name)
        self._view = TASKS[known].view if known else "agentview"
        self._renderer: CameraRenderer | None = None
        self._model: str | None = None
        self._absolute = absolute_actions
        self.simulator = self._make_simulator()
        for camera in self._cameras:
            camera_number(self.simulator.sim, camera)
        low, high = self.simulator.action_spec
        if absolute_actions:
            high = np.full(ABSOLUTE_DIM * len(self.simulator.robots), np.inf)
            low = -high
        self.action_space = spaces.Box(
            low.astype(np.float32), high.astype(np.float32), dtype=np.float32
        )
        self.observation_space = self._space()

    @property
    def env_args(self) -> dict[str, Any]:
        """The description of this environment, as robomimic's files have it; plain JSON values."""
        return self._description.to_env_args(self._version)

    def state(self) -> dict[str, Any]:
        """Return what robomimic records of a state.

        Returns:
            ``model`` (str), XML of the episode; ``states``, (n,) float64, time, positions and
            velocities; ``ep_meta`` (JSON), if the episode has any.

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        if self._model is None:
            raise RuntimeError("the environment has no state before its first reset()")
        state = {"model": self._model, "states": self.simulator.sim.get_state().flatten()}
        meta = self.simulator.get_ep_meta()
        return state | {"ep_meta": json.dumps(meta)} if meta else state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: fixes the start of the episode, and so, with the actions, all of it; the starts
                are those of robosuite after ``np.random.seed(seed)``.
            options: ``{"reset_to": {"model": ..., "states": ...}}`` starts from exactly that
                recorded state (see :meth:`state`); without a model the state is set in that of
                the running episode, which is faster and leaves the controllers as they are.

        Returns:
            The observation and the information ``success``.

        Raises:
            ValueError: an unknown option, or a state that does not fit.
            EnvArgsError: the model cannot be loaded.
        """
        recorded = _parse_reset_options(options)
        super().reset(seed=seed)
        if recorded is None:
            simulator = self.simulator
            with seeded(int(self.np_random.integers(2**32)) if seed is None else seed):
                simulator.unset_ep_meta()
                simulator.reset()
            # Only what is loaded from XML can be loaded again: XML has fewer digits than the model,
            # and controllers aim for the joint angles they find when they are made.
            recorded = {
                "states": simulator.sim.get_state().flatten(),
                "model": simulator.sim.model.get_xml(),
                "ep_meta": json.dumps(simulator.get_ep_meta()),
            }
        self._restore(**recorded)
        return self._observe(), {"success": self._success()}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one step: 1/20 s, unless ``env_args`` have another ``control_freq``.

        Args:
            action: shape (7,) per arm; numbers beyond -1 and 1 are clipped by the controller. Of
                absolute actions shape (10,) per arm; nothing is clipped.

        Returns:
            Observation; reward, 1 for success and else 0, unless ``env_args`` ask for another;
            terminated, whether the task is solved; truncated, always False (the registration
            limits the steps); information ``success`` (bool). An episode can be continued after
            success.

        Raises:
            ValueError: the action has another shape, is not finite, or has a rotation that is
                none.
        """
        given = np.asarray(action, dtype=np.float64)
        if given.shape != self.action_space.shape or not np.isfinite(given).all():
            raise ValueError(
                f"an action must be {self.action_space.shape} finite numbers, but it is {action!r}"
            )
        self.simulator.step(to_controller(given) if self._absolute else given)
        # The simulation has moved on since positions were computed from joint angles.
        self.simulator.sim.forward()
        success = self._success()
        return self._observe(), self.reward(), success, False, {"success": success}

    def reward(self) -> float:
        """Return the reward for being in the present state."""
        return float(self.simulator.reward())

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the scene: uint8, (render_size, render_size, 3), RGB.

        Returns None without a render mode, as gymnasium's own environments do.
        """
        size = self._render_size
        return self._draw(self._view, size, size) if draws(self) else None

    def close(self) -> None:
        """Release the simulator and the graphics library."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        if self.simulator.sim is not None:
            self.simulator.close()

    def _make_simulator(self) -> Any:
        name, kwargs = self._description.env_name, self._description.kwargs
        if self._absolute:
            kwargs = absolute_env_kwargs(kwargs)
        # Images are drawn here, not by robosuite.
        own = {"has_renderer": False, "has_offscreen_renderer": False, "use_camera_obs": False}
        try:
            with seeded(0):
                simulator = import_robosuite().make(name, **(kwargs | own))
        except Exception as error:  # robosuite raises what it likes, also plain Exception
            raise EnvArgsError(
                f"robosuite {self._version} cannot create '{name}' from env_args "
                f"({type(error).__name__}: {error!s:.300})"
            ) from error
        observe = simulator._update_observables

        def update(force: bool = False) -> None:
            # Otherwise they are computed within every step and for nothing: see `observe`.
            if force:
                observe(force=True)

        simulator._update_observables = update
        return simulator

    def _space(self) -> spaces.Dict:
        unbounded = {
            key: spaces.Box(-np.inf, np.inf, shape=value.shape, dtype=np.float32)
            for key, value in self._low_dimensional().items()
        }
        images = {
            f"{camera}_image": spaces.Box(0, 255, (self._height, self._width, 3), dtype=np.uint8)
            for camera in self._cameras
        }
        return spaces.Dict({**unbounded, **images})

    def _restore(self, states: NDArray[np.float64], model: str | None, ep_meta: str | None) -> None:
        simulator = self.simulator
        if model is not None:
            if ep_meta is not None:
                simulator.set_ep_meta(json.loads(ep_meta))
            self._load(model)
        elif self._model is None:
            raise ValueError("reset_to needs a model before the first reset()")
        sim = simulator.sim
        expected = 1 + sim.model.nq + sim.model.nv
        if states.shape != (expected,):
            raise ValueError(
                f"reset_to has states of shape {states.shape}; expected ({expected},), because the "
                f"model has {sim.model.nq} positions and {sim.model.nv} velocities"
            )
        sim.set_state_from_flattened(states)
        sim.forward()

    def _load(self, model: str) -> None:
        simulator = self.simulator
        try:
            simulator.reset_from_xml_string(simulator.edit_model_xml(model))
        except Exception as error:  # of the XML parser, of MuJoCo, or a name that is not there
            raise EnvArgsError(
                f"the recorded model cannot be loaded as '{self._description.env_name}' of "
                f"robosuite {self._version} ({type(error).__name__}: {error!s:.300}); models of "
                "robosuite 1.4 and older name their parts otherwise, and cannot be translated"
            ) from error
        simulator.sim.reset()
        self._model = model

    def _success(self) -> bool:
        return bool(self.simulator._check_success())

    def _observe(self) -> Observation:
        images = {
            f"{camera}_image": self._draw(camera, self._height, self._width)
            for camera in self._cameras
        }
        return {**self._low_dimensional(), **images}

    def _low_dimensional(self) -> dict[str, NDArray[np.float32]]:
        old_order = self._description.old_object_order
        return observations_of(self.simulator, old_object_order=old_order)

    def _draw(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        if self._renderer is None:
            largest = self._render_size if self.render_mode is not None else 0
            self._renderer = CameraRenderer(
                self._description.rendering,
                width=max(largest, self._width),
                height=max(largest, self._height),
            )
        return self._renderer.draw(self.simulator.sim, camera, height, width)


def _parse_reset_options(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the recorded state named in the options of ``reset``, or None.

    Returns:
        ``states`` (n,) float64, ``model`` and ``ep_meta``, text or None.

    Raises:
        ValueError: an option that does not exist, or no state.
    """
    recorded = reset_option(options, "reset_to")
    if recorded is None:
        return None
    found = set(recorded) if isinstance(recorded, Mapping) else set()
    if not {"states"} <= found <= {"model", "states", "ep_meta"}:
        raise ValueError(
            "the reset option 'reset_to' must be a dictionary of states, model and ep_meta, but "
            f"it is {recorded!r:.200}"
        )
    states = np.asarray(recorded["states"], dtype=np.float64)
    if not np.isfinite(states).all():
        raise ValueError("the reset option 'reset_to' has states that are not finite")
    return {"model": None, "ep_meta": None, **recorded, "states": states}
