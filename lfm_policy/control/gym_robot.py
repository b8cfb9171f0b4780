"""A gymnasium environment as a robot whose world does not wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from lfm_envs import OutcomeError, StepOutcome

from lfm_runtime.control import Clock, RealClock


class GymRobot:
    """Steps an environment ``hz`` times per second of the clock, whatever the loop does::

        robot = GymRobot(gymnasium.make("lfm/PushT-v0"), hz=10, seed=200_000)
        print(ControlLoop(robot, policy, hz=10).run().reason, robot.success)

    The world begins to move with the first action. An action counts from the tick in which it is
    given, and stays in force until the next one: a loop that is late finds a world that has moved
    on without it. After the end of the episode nothing moves.

    Attributes:
        done: whether the episode is over.
        success: whether the environment has reported success in any step; None as long as it has
            said neither yes nor no.
        fault: why the episode ended early: the environment gave what cannot be counted, such as a
            reward that is no finite number; names the step. Empty as long as all is well.
        max_reward: largest reward of any step; None before the first.
        steps: environment steps so far.
        actions: the action of every environment step.
        observations: the observation before every environment step, if they are kept.
        simulated: True: nothing of it is real.
        info: the newest information of the environment.
    """

    simulated = True

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        hz: float,
        clock: Clock | None = None,
        seed: int | None = None,
        keep_observations: bool = False,
    ) -> None:
        """Start an episode.

        Args:
            env: with observations by name; it stays open when the robot stops.
            hz: steps per second.
            clock: that of the loop; the machine's by default.
            seed: of the episode.
            keep_observations: whether `observations` are kept.
        """
        self._env = env
        self._hz = hz
        self._clock = RealClock() if clock is None else clock
        self.success: bool | None = None
        self.fault = ""
        self.steps = 0
        self._obs, self.info = env.reset(seed=seed)
        self._read(0.0)
        self._action: np.ndarray | None = None
        self._began = 0.0
        self._observed = 0.0
        self.done = bool(self.fault)
        self.max_reward: float | None = None
        self.actions: list[np.ndarray] = []
        self.observations: list[dict[str, Any]] = []
        self._keep = keep_observations

    def observe(self) -> dict[str, Any]:
        """Bring the world to the present and return its observation."""
        self._observed = self._clock.now()
        if self._action is not None:
            due = round((self._observed - self._began) * self._hz)
            while self.steps < due and not self.done:
                self._step(self._action)
        return _copied(self._obs)

    def act(self, action: np.ndarray) -> None:
        """Make ``action`` the one in force.

        Args:
            action: (action_dim,), as the environment takes it.
        """
        if self._action is None:
            self._began = self._observed
        self._action = np.array(action)

    def stop(self) -> None:
        """Let the world stand still for good."""
        self.done = True

    def _step(self, action: np.ndarray) -> None:
        # Environments may return the same arrays every time, and change the action they are given.
        self.actions.append(action.copy())
        if self._keep:
            self.observations.append(_copied(self._obs))
        self._obs, reward, terminated, truncated, self.info = self._env.step(action.copy())
        counted = self._read(reward)
        self.steps += 1
        self.done = bool(terminated or truncated or self.fault)
        if counted is not None:
            self.max_reward = max(counted, -np.inf if self.max_reward is None else self.max_reward)

    def _read(self, reward: Any) -> float | None:
        """Take in what the environment says; returns the reward, None if something is wrong."""
        try:
            outcome = StepOutcome.of(reward, self.info)
        except OutcomeError as error:
            # Not raised: for the loop that would be one bad observation among others.
            self.fault = f"step {self.steps}: {error}"
            return None
        if outcome.success is not None:
            self.success = bool(self.success) or outcome.success
        return outcome.reward


def _copied(obs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: np.array(value) for key, value in obs.items()}
