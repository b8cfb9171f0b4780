"""Executing recorded actions once more."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from lfm_policy.control.gym_robot import GymRobot
from lfm_policy.control.recording import RecordedEpisode
from lfm_policy.errors import InputError
from lfm_runtime.control import SimulatedClock


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
    robot = GymRobot(env, hz=episode.hz, clock=clock, seed=seed)
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
