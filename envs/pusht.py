"""PushT: push a T-shaped block into its goal zone (the simulator is ``gym_pusht``).

Three environments with the same dynamics, action, reward and end, and different observations:
``PushTEnv`` (features of the state), ``PushTImageEnv`` (camera image and agent position) and
``PushTImageStateEnv`` (all of it). The dynamics are those of ``gym_pusht``, untouched; actions are
not clipped, as they are not there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from .checks import check_render_mode, checked_size, draws, reset_option, version_numbers
from .errors import MissingSimulatorError
from .pusht_features import FEATURE_SHAPES, STATE_DIM, state_features

BOARD_SIZE: Final = 512
"""Width and height of the board in pixels; actions are positions on it."""

_INSTALL: Final = 'install it, in the folder of the package, with: pip install ".[sim]"'

# Centre of gravity of the T in its own frame, about which the simulator turns it.
_CENTER_OF_GRAVITY: Final = np.array([0.0, 45.0])

Observation = dict[str, Any]


def _simulator_module() -> Any:
    """Import ``gym_pusht`` and return the module of its environment.

    Raises:
        MissingSimulatorError: it or something it needs is missing, it is too old, or pymunk is
            too new.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        simulator: Any = importlib.import_module("gym_pusht.envs.pusht")
        versions = {name: importlib.metadata.version(name) for name in ("gym-pusht", "pymunk")}
    except ImportError as error:
        raise MissingSimulatorError(
            f"PushT needs the simulator gym-pusht, which cannot be imported ({error}); {_INSTALL}"
        ) from error
    if version_numbers(versions["gym-pusht"]) < (0, 1, 6):
        raise MissingSimulatorError(
            "PushT needs gym-pusht 0.1.6 or newer (older ones ignore the seed of an episode), but "
            f'{versions["gym-pusht"]} is installed; repair it with: pip install "gym-pusht>=0.1.6"'
        )
    if version_numbers(versions["pymunk"]) >= (7,):
        raise MissingSimulatorError(
            "PushT needs pymunk older than 7 (7 removed what gym-pusht calls), but "
            f'{versions["pymunk"]} is installed; repair it with: pip install "pymunk<7"'
        )
    return simulator


def _without_shift(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the state to ask ``gym_pusht`` for so that it ends up in ``state``.

    It sets the block's position before its angle, and setting the angle turns the block about its
    centre of gravity g, so the block would land at (I - R(angle)) g from where it should be.
    """
    cos, sin = np.cos(state[4]), np.sin(state[4])
    rotation = np.array([[cos, -sin], [sin, cos]])
    asked = state.copy()
    asked[2:4] -= _CENTER_OF_GRAVITY - rotation @ _CENTER_OF_GRAVITY
    return asked


def _parse_options(options: Mapping[str, Any] | None) -> NDArray[np.float64] | None:
    """Return the state named in the options of ``reset``, or None.

    Raises:
        ValueError: an option that does not exist, or a state of a wrong shape or not finite.
    """
    state = reset_option(options, "state")
    if state is None:
        return None
    parsed = np.asarray(state, dtype=np.float64)
    if parsed.shape != (STATE_DIM,) or not np.isfinite(parsed).all():
        raise ValueError(
            f"the reset option 'state' must be {STATE_DIM} finite numbers (agent x, agent y, "
            f"block x, block y, block angle), but it is {state!r}"
        )
    return parsed


class _PushTBase(gym.Env[Observation, ArrayLike]):
    """What both environments share: dynamics, reward, end, reset and rendering."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self, *, simulator_options: dict[str, Any], render_mode: str | None, render_size: int
    ) -> None:
        check_render_mode(render_mode)
        checked_size("render_size", render_size)
        self.render_mode = render_mode
        self.action_space = spaces.Box(0.0, float(BOARD_SIZE), shape=(2,), dtype=np.float32)
        module = _simulator_module()
        self._to_shapely = module.pymunk_to_shapely
        self._simulator = module.PushTEnv(
            render_mode="rgb_array",
            visualization_width=render_size,
            visualization_height=render_size,
            **simulator_options,
        )
        # Its own sum goes through a set, so the last digit would change from run to run.
        self._simulator._get_coverage = self._coverage
        self._goal: Any = None
        self._info: dict[str, Any] | None = None

    @property
    def state(self) -> NDArray[np.float64]:
        """The state as demonstrations record it: (5,), pixels and an angle in [0, 2 pi).

        Raises:
            RuntimeError: the environment has not been reset yet.
        """
        if self._info is None:
            raise RuntimeError("the environment has no state before its first reset()")
        x, y, angle = self._info["block_pose"]
        return np.array([*self._info["pos_agent"], x, y, angle % (2 * np.pi)])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: fixes the start of the episode, and so, with the actions, all of it; the starts
                are those of ``gym_pusht`` with the same seed.
            options: ``{"state": (5,)}`` starts from exactly that recorded state.

        Returns:
            The observation and the information ``success`` and ``coverage``.

        Raises:
            ValueError: an unknown option or a state that is not five finite numbers.
        """
        state = _parse_options(options)
        super().reset(seed=seed)
        # One generator for both, so that np_random and np_random_seed tell the truth.
        self._simulator.np_random = self.np_random
        # The simulator would go on drawing the last action of the previous episode.
        self._simulator._last_action = None
        raw, self._info = self._simulator.reset(
            options=None if state is None else {"reset_to_state": _without_shift(state)}
        )
        coverage = self._coverage()
        success = coverage > self._simulator.success_threshold
        return self._observation(raw), {"success": success, "coverage": coverage}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move the agent towards a target for 0.1 s.

        Args:
            action: shape (2,), target position of the agent in pixels.

        Returns:
            Observation; reward, clip(coverage / 0.95, 0, 1); terminated, coverage > 0.95;
            truncated, always False (the registration limits the steps); information ``success``
            (bool) and ``coverage`` (float, share of the goal zone that the block covers).

        Raises:
            ValueError: the action is not two finite numbers.
        """
        target = np.asarray(action, dtype=np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise ValueError(f"a PushT action must be two finite numbers, but it is {action!r}")
        raw, reward, terminated, _, self._info = self._simulator.step(target)
        info = {"success": bool(terminated), "coverage": float(self._info["coverage"])}
        return self._observation(raw), float(reward), bool(terminated), False, info

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the board: uint8, (render_size, render_size, 3), RGB; a cross marks the action.

        Returns None without a render mode, as gymnasium's own environments do.
        """
        return np.asarray(self._simulator.render(), dtype=np.uint8) if draws(self) else None

    def close(self) -> None:
        """Release the simulator."""
        self._simulator.close()

    def _coverage(self) -> float:
        """Share of the goal zone that the block covers, as ``gym_pusht`` defines it."""
        simulator = self._simulator
        shapes = simulator._block_shapes  # a list: always added up in the same order
        if self._goal is None:  # the goal is the same in every episode
            goal_body = simulator.get_goal_pose_body(simulator.goal_pose)
            self._goal = self._to_shapely(goal_body, shapes)
        block = self._to_shapely(simulator.block, shapes)
        return float(self._goal.intersection(block).area / self._goal.area)

    def _observation(self, raw: Any) -> Observation:
        raise NotImplementedError


def _feature_space() -> dict[str, spaces.Space[Any]]:
    """Return the spaces of the features of the state."""
    bounds = {key: np.full(shape, np.inf) for key, shape in FEATURE_SHAPES.items()}
    bounds["block_pose"][2:] = 1.0  # cosine and sine
    return {
        key: spaces.Box((-bound).astype(np.float32), bound.astype(np.float32), dtype=np.float32)
        for key, bound in bounds.items()
    }


class PushTEnv(_PushTBase):
    """PushT with the named state features of :func:`lfm_envs.pusht_features.state_features`.

    Observation: ``agent_pos`` (2,), ``block_pose`` (4,), ``keypoints`` (16,), float32. Positions
    have no bounds in the observation space: an agent that presses hard enough pushes the block
    several pixels through a wall. Creating it needs the extra ``sim``.
    """

    def __init__(self, render_mode: str | None = None, render_size: int = 512) -> None:
        """Create the environment; nothing is drawn unless ``render()`` is called.

        Args:
            render_mode: None or ``"rgb_array"``.
            render_size: width and height of what ``render()`` returns, in pixels.

        Raises:
            MissingSimulatorError: ``gym_pusht`` cannot be imported.
            ValueError: an argument out of its range.
        """
        super().__init__(
            simulator_options={"obs_type": "state"},
            render_mode=render_mode,
            render_size=render_size,
        )
        self.observation_space = spaces.Dict(_feature_space())

    def _observation(self, raw: Any) -> Observation:
        return dict(state_features(raw))


class PushTImageEnv(_PushTBase):
    """PushT seen by its camera.

    Observation: ``image`` uint8 (image_size, image_size, 3), RGB, and ``agent_pos`` float32 (2,)
    in pixels of the board. At the default size of 96 the image is the one that the demonstrations
    of Diffusion Policy recorded. Creating it needs the extra ``sim``.
    """

    def __init__(
        self, render_mode: str | None = None, render_size: int = 512, image_size: int = 96
    ) -> None:
        """Create the environment.

        Args:
            render_mode: None or ``"rgb_array"``.
            render_size: width and height of what ``render()`` returns, in pixels.
            image_size: width and height of the observed image, in pixels.

        Raises:
            MissingSimulatorError: ``gym_pusht`` cannot be imported.
            ValueError: an argument out of its range.
        """
        checked_size("image_size", image_size)
        super().__init__(
            simulator_options={
                "obs_type": "pixels_agent_pos",
                "observation_width": image_size,
                "observation_height": image_size,
            },
            render_mode=render_mode,
            render_size=render_size,
        )
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, shape=(image_size, image_size, 3), dtype=np.uint8),
                "agent_pos": spaces.Box(-np.inf, np.inf, shape=(2,), dtype=np.float32),
            }
        )

    def _observation(self, raw: Any) -> Observation:
        return {
            "image": np.asarray(raw["pixels"], dtype=np.uint8),
            "agent_pos": np.asarray(raw["agent_pos"], dtype=np.float32),
        }


class PushTImageStateEnv(PushTImageEnv):
    """PushT seen by its camera, with the state beside it.

    Observation: that of :class:`PushTImageEnv`, and ``block_pose`` and ``keypoints`` as
    :class:`PushTEnv` gives them. What a robot would not know is there for who learns from somebody
    who does: policies of either environment act here too.
    """

    def __init__(
        self, render_mode: str | None = None, render_size: int = 512, image_size: int = 96
    ) -> None:
        """Create the environment; see :class:`PushTImageEnv`."""
        super().__init__(render_mode, render_size, image_size)
        image = spaces.Box(0, 255, shape=(image_size, image_size, 3), dtype=np.uint8)
        self.observation_space = spaces.Dict({"image": image, **_feature_space()})

    def _observation(self, raw: Any) -> Observation:
        return {**super()._observation(raw), **state_features(self.state)}
