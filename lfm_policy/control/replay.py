"""Executing recorded actions once more."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from lfm_policy.config import EnvConfig
from lfm_policy.config.load import config_from_dict
from lfm_policy.control.gym_robot import GymRobot
from lfm_policy.control.recording import RecordedEpisode, Recording
from lfm_policy.errors import InputError
from lfm_runtime.control import SimulatedClock

ENVIRONMENT = "environment"
"""Attribute of a recording: the options ``env`` of what it was recorded in."""


def recorded_environment(recording: Recording, *, needed: bool = True) -> EnvConfig:
    """Return the environment that a recording is of, with its options.

    Args:
        recording: of the control loop in an environment.
        needed: whether it has to say one; else one without a name stands for none.

    Raises:
        InputError: it says none although one is needed, or what it says is none.
    """
    attributes = recording.attributes
    options = attributes.get(ENVIRONMENT)
    if options is None and "robot" not in attributes and isinstance(attributes.get("env"), str):
        options = {"id": attributes["env"]}  # as it was written before
    if options is not None:
        env = config_from_dict({"env": options}, f"{recording.path}/.zattrs, {ENVIRONMENT}").env
        if env.id:
            return env
    if needed:
        raise InputError(
            f"{recording.path} does not say which environment it is of; name it: --env ID"
        )
    return EnvConfig()


class _Unseen(gym.ObservationWrapper[Any, Any, Any]):
    """An environment whose observations nobody looks at, of whatever kind they are."""

    def observation(self, observation: Any) -> dict[str, Any]:
        return {}


def replay_actions(
    episode: RecordedEpisode, env: gym.Env[Any, Any], *, seed: int
) -> dict[str, Any]:
    """Execute the actions of a recorded run in an environment, as fast as it goes.

    The same environment from the same seed ends as it did in the recording, as long as the loop
    kept its rate.

    Returns:
        ``steps``, ``success`` (None where the environment does not report it) and
        ``max_reward``, plain JSON values.

    Raises:
        InputError: the environment takes other actions, or gives a reward that is no finite number.
    """
    shape = (episode.action.shape[1],)
    if env.action_space.shape != shape:
        raise InputError(
            f"the environment takes actions of shape {env.action_space.shape}, the recording has "
            f"{shape}"
        )
    clock = SimulatedClock()
    robot = GymRobot(_Unseen(env), hz=episode.hz, clock=clock, seed=seed)
    for tick, action in enumerate(episode.action):
        robot.observe()
        robot.act(action)
        clock.sleep_until((tick + 1) / episode.hz)
    robot.observe()
    if robot.fault:
        raise InputError(f"the environment, seed {seed}, {robot.fault}")
    return {
        "steps": robot.steps,
        "success": robot.success,
        "max_reward": robot.max_reward or 0.0,
    }
