"""What an episode is recorded from: an environment together with somebody who acts in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import lfm_envs
import numpy as np

from lfm_policy.collect.experts import EXPERTS
from lfm_policy.collect.options import CollectOptions
from lfm_policy.environments import created

Observation = dict[str, np.ndarray]

_GYM = 2
"""robomimic's number for environments of gym."""

_MAX_STEPS = 300
"""Steps of an attempt in an environment that does not limit them itself."""


class Demonstrator(ABC):
    """An expert of a task, and the environment in which he shows it.

    The smallest one names an environment with observations by name and says how to act in it::

        @EXPERTS.add("Reach")
        class ReachExpert(Demonstrator):
            env_id = "my/Reach-v0"

            def act(self, obs):
                return np.clip(obs["goal"] - obs["hand"], -1, 1)

    Class attributes:
        env_id: gymnasium id of the environment.
        observations: names for what it observes, where it gives none; as ``env.observations``.
        version: to be raised when he acts otherwise than before: recordings must not mix both.
        image_size: width and height of recorded images where nobody asks for another one.
        tail: for how many more steps the task has to stay solved, at least and at most: a demo
            shows what to do when it is done.

    Attributes:
        options: what is collected.
        env: the environment.
        env_args: description of it, as robomimic's files have it.
        task: what its demonstrations are called beside those of other tasks; empty or not there:
            nothing.
        max_steps: steps after which an attempt has failed.
        generator: determines his behaviour in the present episode.
        ended: whether the environment said in the last step that the episode is over.
    """

    env_id: ClassVar[str] = ""
    observations: ClassVar[Mapping[str, Any]] = {}
    version: ClassVar[int] = 1
    image_size: ClassVar[int] = 84
    tail: tuple[int, int] = (0, 0)
    task: str = ""
    ended: bool = False

    def __init__(self, options: CollectOptions, env_id: str = "", **arguments: Any) -> None:
        """Create the environment.

        Args:
            options: what is collected.
            env_id: gymnasium id; by default that of the class.
            **arguments: of the environment.

        Raises:
            InputError: there is no such environment, or its simulator is missing.
        """
        env_id = env_id or self.env_id
        reading = lfm_envs.Reading(self.observations) if self.observations else None
        self.env = created(env_id, arguments, reading)
        spec = self.env.spec
        self.options = options
        self.env_args: dict[str, Any] = {
            "env_name": env_id.rpartition(":")[2],
            "env_version": "0",
            "type": _GYM,
            "env_kwargs": arguments,
        }
        self.max_steps = (spec.max_episode_steps if spec else None) or _MAX_STEPS
        self.generator = np.random.default_rng(0)

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode; ``generator`` determines the demonstrator's behaviour in it."""
        self.generator = generator
        raw, _ = self.env.reset(seed=seed)
        return self.observe(raw)

    @abstractmethod
    def act(self, obs: Observation) -> np.ndarray:
        """Return the demonstrator's next action, (action_dim,)."""

    def observe(self, raw: Observation) -> Observation:
        """Return what is recorded of an observation of the environment."""
        return dict(raw)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Act; returns the observation, the reward and whether the task is solved.

        It is where the environment says so, and where it does not, when the episode is over.
        """
        raw, reward, terminated, truncated, info = self.env.step(action)
        self.ended = bool(terminated or truncated)
        success = lfm_envs.success_of(info)
        return self.observe(raw), float(reward), bool(terminated) if success is None else success

    def scene(self) -> dict[str, Any]:
        """Return the state: ``states`` (n,) float64; ``model`` and ``ep_meta`` if it has any.

        Empty for an environment whose state cannot be set again.
        """
        return {}

    def restart(self, scene: dict[str, Any]) -> Observation:
        """Start from exactly a recorded state, see `scene`, without a demonstrator."""
        raise NotImplementedError(f"{type(self).__name__} has a scene, but no restart")

    def close(self) -> None:
        """Release the simulator."""
        self.env.close()


def make_demonstrator(options: CollectOptions) -> Demonstrator:
    """Return who demonstrates a task.

    Raises:
        InputError: the simulator is missing, or the expert does not take its options.
    """
    demonstrator: Demonstrator = EXPERTS.make(options.task, options, **options.expert_options)
    return demonstrator
