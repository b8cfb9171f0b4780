"""What an episode is recorded from: an environment together with somebody who acts in it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from lfm_policy.collect.options import CollectOptions

Observation = dict[str, np.ndarray]


class Stage(Protocol):
    """An environment and its demonstrator.

    Attributes:
        env_args: description of the environment, as robomimic's files have it.
        max_steps: steps after which an attempt has failed.
        tail: for how many more steps the task has to stay solved, at least and at most: a demo
            shows what to do when it is done.
    """

    env_args: dict[str, Any]
    max_steps: int
    tail: tuple[int, int]

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode; ``generator`` determines the demonstrator's behaviour in it."""

    def restart(self, scene: dict[str, Any]) -> Observation:
        """Start from exactly a recorded state, see `scene`, without a demonstrator."""

    def scene(self) -> dict[str, Any]:
        """Return the state: ``states`` (n,) float64; ``model`` and ``ep_meta`` if it has any."""

    def act(self, obs: Observation) -> np.ndarray:
        """Return the demonstrator's next action."""

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Act; returns the observation, the reward and whether the task is solved."""

    def close(self) -> None:
        """Release the simulator."""


def make_stage(options: CollectOptions) -> Stage:
    """Return the stage for a task.

    Raises:
        InputError: its simulator is missing.
    """
    if options.task == "PushT":
        from lfm_policy.collect.pusht import PushTStage

        return PushTStage(options)
    from lfm_policy.collect.robosuite import RobosuiteStage

    return RobosuiteStage(options)
