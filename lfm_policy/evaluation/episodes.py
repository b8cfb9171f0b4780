"""Which episodes are rolled out, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lfm_envs import AS_GIVEN, Reading

from lfm_policy.config import EnvConfig
from lfm_policy.environments import TASK_FIELD, reading_of
from lfm_policy.errors import InputError
from lfm_policy.text.numbers import rounded
from lfm_runtime.policy.tasks import task_number


@dataclass(frozen=True)
class RolloutConfig:
    """Which episodes, where, and how many at a time.

    Attributes:
        env_id: gymnasium id of an environment, of `lfm_envs` or any other.
        seed_start: episode i starts from environment seed ``seed_start + i``.
        noise_seed: seed of the policy's noise; chunk k of episode i depends on (seed, i, k).
        max_episode_steps: steps after which an episode is truncated.
        num_envs: environments that run at the same time; results do not depend on it.
        processes: one process per environment instead of all in this one.
        env_options: arguments of the environment.
        reading: names for its observations, and what says success.
        tasks: which of its tasks the policy is to do, each in its own episodes; ``{task}`` in
            ``env_id`` stands for the task. Empty: as `by_task` says.
    """

    env_id: str
    seed_start: int = 100_000
    noise_seed: int = 0
    max_episode_steps: int = 300
    num_envs: int = 32
    processes: bool = False
    env_options: dict[str, Any] = field(default_factory=dict)
    reading: Reading = AS_GIVEN
    tasks: tuple[str, ...] = ()

    @classmethod
    def of(cls, env: EnvConfig, **more: Any) -> RolloutConfig:
        """Return episodes of a configured environment, as long as that says; ``more`` as above."""
        return cls(
            env_id=env.id,
            max_episode_steps=env.max_episode_steps,
            env_options=dict(env.options),
            reading=reading_of(env),
            **more,
        )

    def by_task(self, known: Sequence[str]) -> list[RolloutConfig]:
        """Return the episodes of every task by itself.

        Args:
            known: tasks of the policy. They are all meant where ``env_id`` names a task and none is
                chosen; where it names none, the environment is asked which one is to be done.

        Raises:
            InputError: there is no such task, or nothing says what stands for ``{task}``.
        """
        names = self.tasks or (tuple(known) if TASK_FIELD in self.env_id else ())
        if not names and TASK_FIELD in self.env_id:
            raise InputError(
                f"environment '{self.env_id}': nothing says what {TASK_FIELD} stands for: the "
                "policy was trained without dataset.tasks; name a single environment"
            )
        if names and not known:
            raise InputError(
                f"tasks {', '.join(names)}: the policy is not told its task: it was trained "
                "without dataset.tasks"
            )
        numbers = dict.fromkeys(task_number(known, name) for name in names)
        return [
            replace(self, env_id=self.env_id.replace(TASK_FIELD, known[n]), tasks=(known[n],))
            for n in numbers
        ] or [self]


@dataclass(frozen=True)
class EpisodeResult:
    """What became of one episode.

    Attributes:
        episode: its number i.
        seed: environment seed.
        success: whether the environment reported success in any step; None where it said neither
            yes nor no, see `settled`.
        max_reward: largest reward of any step (for PushT: coverage/0.95 clipped to 1).
        final_coverage: coverage of the goal in the last step; None where there is no such thing.
        steps: environment steps until the episode was over, which success may or may not end.
        chunks: policy calls.
        nfe: network evaluations per chunk; of an adaptive solver on average.
        restarts: times that it was run again from its start, because a process of environments
            had died; it does not count when results are compared.
        task: what was to be done, where the policy was told.
        solved_at: the first step in which the environment reported success; None without success.
    """

    episode: int
    seed: int
    success: bool | None
    max_reward: float
    final_coverage: float | None
    steps: int
    chunks: int
    nfe: float
    restarts: int = field(default=0, compare=False)
    task: str = ""
    solved_at: int | None = field(default=None, compare=False)  # earlier versions did not say it


def settled(
    results: Iterable[EpisodeResult], *, reported: bool | None = None
) -> list[EpisodeResult]:
    """Return results in which an episode that said nothing of success is a failure.

    Some environments speak of success only where there is one. Where none of all episodes says
    anything, the environment does not report success at all, and nothing is made of it.

    Args:
        results: of one environment.
        reported: whether it is known to report success; by default, whether these results do.
    """
    episodes = list(results)
    if reported is None:
        reported = any(result.success is not None for result in episodes)
    if not reported:
        return episodes
    return [replace(result, success=bool(result.success)) for result in episodes]


def successes_of(results: Sequence[EpisodeResult]) -> list[bool] | None:
    """Return whether each episode succeeded; None where the environment reports no success."""
    successes = [result.success for result in settled(results)]
    told = [success for success in successes if success is not None]
    return told if len(told) == len(successes) else None


def no_success_message(env_id: str) -> str:
    """Return what to say where an environment reports no success, and what to do about it."""
    return (
        f"environment '{env_id}' never said whether an episode succeeded: let its step() return "
        "info['success'] or info['is_success'], True or False; where the end of an episode before "
        "its time means success, say so with --success terminated (env.success=terminated)"
    )


def outcome_of(result: EpisodeResult) -> str:
    """Return ``success``, ``failure`` or ``unknown``, as in names of videos."""
    if result.success is None:
        return "unknown"
    return "success" if result.success else "failure"


def describe_outcome(result: EpisodeResult) -> str:
    """Return what became of an episode in words, as below its picture or at the end of its film."""
    reward = f"largest reward {rounded(result.max_reward)}"
    if result.success is None:
        return f"ended after {result.steps} steps, {reward}"
    solved_at = result.solved_at or result.steps
    return f"solved in {solved_at} steps" if result.success else f"not solved, {reward}"


def _per_chunk(evaluations: int, chunks: int) -> float:
    """Return how many evaluations a chunk took, whole where all took as many."""
    whole, rest = divmod(evaluations, max(chunks, 1))
    return evaluations / chunks if rest else whole


@dataclass
class Running:
    """An episode in progress in one environment."""

    episode: int
    chunks: int = 0
    steps: int = 0
    success: bool | None = None
    max_reward: float = -math.inf
    coverage: float | None = None
    ended: bool = False
    evaluations: int = 0
    solved_at: int | None = None

    def begin(self, success: bool | None) -> None:
        """Note what is said of success before the first step: that it is spoken of at all."""
        if success is not None:
            self.success = False

    def record(
        self, reward: float, ended: bool, success: bool | None, coverage: float | None
    ) -> None:
        """Count a step."""
        self.steps += 1
        self.max_reward = max(self.max_reward, reward)
        if success is not None:
            self.success = bool(self.success) or success
        if success and self.solved_at is None:
            self.solved_at = self.steps
        self.coverage = coverage
        self.ended = ended

    def result(self, seed_start: int, restarts: int, task: str = "") -> EpisodeResult:
        """Return what became of it."""
        return EpisodeResult(
            episode=self.episode,
            seed=seed_start + self.episode,
            success=self.success,
            max_reward=self.max_reward,
            final_coverage=self.coverage,
            steps=self.steps,
            chunks=self.chunks,
            nfe=_per_chunk(self.evaluations, self.chunks),
            restarts=restarts,
            task=task,
            solved_at=self.solved_at,
        )
