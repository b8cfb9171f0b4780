"""Whole episodes of an environment under the control loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from lfm_policy.control.gym_robot import GymRobot
from lfm_policy.control.own_robot import OwnRobot
from lfm_policy.control.recording import ACTION_NAMES, outcome_attribute
from lfm_policy.environments import check_env_spaces
from lfm_policy.errors import InputError
from lfm_runtime.control import (
    Clock,
    ControlLoop,
    ControlOptions,
    ControlResult,
    Inference,
    RealClock,
    Recorder,
    SimulatedClock,
    SimulatedInference,
    ThreadedInference,
)
from lfm_runtime.control.planning.chunk import Request
from lfm_runtime.control.planning.inference import Predict
from lfm_runtime.control.robot import Robot
from lfm_runtime.policy.spec import DataSpec


@dataclass(frozen=True)
class EpisodeOutcome:
    """What became of an episode.

    Attributes:
        seed: of the environment.
        success: whether the environment reported success in any step; None where it said neither
            yes nor no.
        max_reward: largest reward of any step; 0 when there was none.
        steps: environment steps.
        action_jerk: root mean square jerk of the actions, in their units per second cubed.
        position_jerk: the same of an observed position; None when none was named.
        control: counts of the loop.
    """

    seed: int
    success: bool | None
    max_reward: float
    steps: int
    action_jerk: float
    position_jerk: float | None
    control: ControlResult


def run_episode(
    policy: Any,
    env: gym.Env[Any, Any],
    *,
    hz: float,
    seed: int,
    options: ControlOptions | None = None,
    delay: float = 0.0,
    simulated: bool = False,
    recorder: Recorder | None = None,
    record_obs: Sequence[str] = (),
    position_key: str | None = None,
    max_ticks: int | None = None,
) -> EpisodeOutcome:
    """Control one episode of an environment.

    Args:
        policy: see `lfm_runtime.control.ControlLoop`.
        env: with observations by name.
        hz: ticks, and environment steps, per second.
        seed: of the environment.
        options: of the loop.
        delay: seconds that every chunk takes; with a real clock, longer than it does anyway.
        simulated: let time pass only where somebody waits. Chunks then take exactly ``delay``.
        recorder: writes the episode down.
        record_obs: observations that it writes down although the policy does not see them.
        position_key: observation whose jerk is wanted.
        max_ticks: ticks after which it ends; None: no limit.

    Raises:
        InputError: environment, policy and options do not fit one another, or the environment
            gives a reward that is no finite number.
    """
    env_id = type(env.unwrapped).__name__ if env.spec is None else env.spec.id
    check_env_spaces(_seen(policy), env.observation_space, env.action_space, env_id=env_id)
    clock, inference = _timing(delay, simulated)
    robot = GymRobot(
        env,
        hz=hz,
        clock=clock,
        seed=seed,
        keep_observations=position_key is not None,
    )
    loop = ControlLoop(
        robot,
        policy,
        hz=hz,
        options=options,
        clock=clock,
        inference=inference,
        recorder=recorder,
        record_obs=record_obs,
    )
    before = recorder.episodes if recorder is not None else 0
    result = loop.run(max_ticks)
    if robot.fault:
        raise InputError(f"environment '{env_id}', seed {seed}, {robot.fault}")
    position_jerk = None
    if position_key is not None:
        position_jerk = rms_jerk([obs[position_key] for obs in robot.observations], hz)
    outcome = EpisodeOutcome(
        seed=seed,
        success=robot.success,
        max_reward=robot.max_reward or 0.0,
        steps=robot.steps,
        action_jerk=rms_jerk(robot.actions, hz),
        position_jerk=position_jerk,
        control=result,
    )
    _note(recorder, before, outcome, reward=robot.max_reward)
    return outcome


def _seen(policy: Any) -> DataSpec:
    """Return what the robot has to show a policy: not the task, where that is known."""
    spec: DataSpec = policy.spec
    return spec.untold() if getattr(policy, "task", None) else spec


def run_robot(
    policy: Any,
    robot: Robot,
    *,
    hz: float,
    seed: int = 0,
    options: ControlOptions | None = None,
    delay: float = 0.0,
    simulated: bool = False,
    recorder: Recorder | None = None,
    record_obs: Sequence[str] = (),
    max_ticks: int | None = None,
) -> EpisodeOutcome:
    """Control a robot until its task is over, or the loop has another reason to end.

    Args:
        policy: see `lfm_runtime.control.ControlLoop`.
        robot: stopped in the end; its attribute ``success``, if it has one, says how it went. If
            it has a method ``prepare(spec, options)``, that checks whether the policy fits, and
            returns the options with the robot's own limits.
        hz: ticks per second.
        seed: for the outcome.
        options: see `run_episode`, as the rest.
        delay: seconds that every chunk takes.
        simulated: let time pass only where somebody waits, for a robot that is no machine.
        recorder: writes the episode down.
        record_obs: observations that it writes down although the policy does not see them.
        max_ticks: ticks after which it ends; None: no limit.

    Raises:
        InputError: robot, policy and options do not fit one another.
        RobotError: the robot's own code raised something else, which is the cause.
    """
    clock, inference = _timing(delay, simulated)
    own = OwnRobot(robot)
    with own.named():
        try:
            loop = ControlLoop(
                own,
                policy,
                hz=hz,
                options=own.prepare(_seen(policy), options or ControlOptions()),
                clock=clock,
                inference=inference,
                recorder=recorder,
                record_obs=record_obs,
            )
        except BaseException:
            own.stop()  # it may be connected and under power already
            raise
        if recorder is not None and (names := getattr(robot, "action_names", None)):
            recorder.note(ACTION_NAMES, [str(name) for name in names])
        before = recorder.episodes if recorder is not None else 0
        own.step = lambda: loop.result.steps
        result = loop.run(max_ticks)
    success = getattr(robot, "success", None)
    outcome = EpisodeOutcome(
        seed=seed,
        success=None if success is None else bool(success),
        max_reward=0.0,
        steps=len(own.actions),
        action_jerk=rms_jerk(own.actions, hz),
        position_jerk=None,
        control=result,
    )
    _note(recorder, before, outcome, reward=None)
    return outcome


def rms_jerk(values: Sequence[np.ndarray] | np.ndarray, hz: float) -> float:
    """Return the root mean square of the jerk, the third derivative in time.

    Args:
        values: (T, D), one row per tick, at least four of them.
        hz: ticks per second.

    Returns:
        sqrt(E |x[t] - 3 x[t-1] + 3 x[t-2] - x[t-3]|^2) * hz^3, in units of the values per second
        cubed; 0 for fewer than four rows.
    """
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) < 4:
        return 0.0
    thirds = np.diff(rows, n=3, axis=0)
    return float(np.sqrt(np.mean(np.sum(thirds**2, axis=-1))) * hz**3)


def _note(
    recorder: Recorder | None, before: int, outcome: EpisodeOutcome, *, reward: float | None
) -> None:
    """Write down how an episode ended, unless it left nothing in the recording."""
    if recorder is not None and recorder.episodes > before:
        facts = {
            "seed": outcome.seed,
            "ended": outcome.control.reason,
            "success": None if outcome.success is None else bool(outcome.success),
            "max_reward": None if reward is None else float(reward),
        }
        recorder.note(outcome_attribute(before), facts)


def _timing(delay: float, simulated: bool) -> tuple[Clock, Callable[[Predict], Inference]]:
    """Return the clock of a loop, and what computes its chunks."""
    if simulated:
        simulated_clock = SimulatedClock()
        return simulated_clock, lambda predict: SimulatedInference(predict, simulated_clock, delay)
    clock = RealClock()
    return clock, lambda predict: ThreadedInference(_slower(predict, delay), clock)


def _slower(predict: Predict, delay: float) -> Predict:
    if not delay:
        return predict

    def delayed(request: Request) -> np.ndarray:
        end = time.monotonic() + delay
        actions = predict(request)
        time.sleep(max(end - time.monotonic(), 0))
        return actions

    return delayed
