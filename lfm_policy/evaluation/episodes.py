"""Which episodes are rolled out, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RolloutConfig:
    """Which episodes, where, and how many at a time.

    Attributes:
        env_id: gymnasium id of an environment of `lfm_envs`.
        seed_start: episode i starts from environment seed ``seed_start + i``.
        noise_seed: seed of the policy's noise; chunk k of episode i depends on (seed, i, k).
        max_episode_steps: steps after which an episode is truncated.
        num_envs: environments that run at the same time; results do not depend on it.
        processes: one process per environment instead of all in this one.
        env_options: arguments of the environment.
    """

    env_id: str
    seed_start: int = 100_000
    noise_seed: int = 0
    max_episode_steps: int = 300
    num_envs: int = 32
    processes: bool = False
    env_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeResult:
    """What became of one episode.

    Attributes:
        episode: its number i.
        seed: environment seed.
        success: whether the environment reported success in any step.
        max_reward: largest reward of any step (for PushT: coverage/0.95 clipped to 1).
        final_coverage: coverage of the goal in the last step; None where there is no such thing.
        steps: environment steps until success or truncation.
        chunks: policy calls.
        nfe: network evaluations per chunk.
        restarts: times that it was run again from its start, because a process of environments
            had died; it does not count when results are compared.
    """

    episode: int
    seed: int
    success: bool
    max_reward: float
    final_coverage: float | None
    steps: int
    chunks: int
    nfe: int
    restarts: int = field(default=0, compare=False)


class Running:
    """An episode in progress in one environment."""

    def __init__(self, episode: int) -> None:
        self.episode = episode
        self.chunks = 0
        self.steps = 0
        self.success = False
        self.max_reward = -np.inf
        self.coverage: float | None = None
        self.ended = False
        self.nfe = 0

    def record(self, reward: float, ended: bool, success: bool, coverage: float | None) -> None:
        """Count a step."""
        self.steps += 1
        self.max_reward = max(self.max_reward, reward)
        self.success = self.success or success
        self.coverage = coverage
        self.ended = ended

    def result(self, seed_start: int, restarts: int) -> EpisodeResult:
        """Return what became of it."""
        return EpisodeResult(
            episode=self.episode,
            seed=seed_start + self.episode,
            success=self.success,
            max_reward=float(self.max_reward),
            final_coverage=self.coverage,
            steps=self.steps,
            chunks=self.chunks,
            nfe=self.nfe,
            restarts=restarts,
        )
