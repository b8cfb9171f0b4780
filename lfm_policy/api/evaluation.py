"""Rollouts in an environment that may be an object, and what became of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
from lfm_envs import ObservationError, Reading

from lfm_policy.config import EnvConfig
from lfm_policy.environments import TASK_FIELD, chosen_environment, reading_of
from lfm_policy.errors import InputError
from lfm_policy.evaluation.environments import ENVS_IN_ONE_PROCESS, choose_workers
from lfm_policy.evaluation.episodes import EpisodeResult, RolloutConfig, outcome_of
from lfm_policy.evaluation.evaluation import evaluate_present, settled_cells
from lfm_policy.evaluation.exported import ExportedPolicy
from lfm_policy.evaluation.recording import record_videos
from lfm_policy.evaluation.report import Cell
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.evaluation.statistics import Interval
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.policy import load_policy
from lfm_policy.text.numbers import percent, rounded
from lfm_runtime.export.file import is_export
from lfm_runtime.export.onnx_policy import OnnxPolicy
from lfm_runtime.policy.tasks import task_number

__all__ = ["Evaluation", "evaluate"]

EnvFactory: TypeAlias = Callable[[], gym.Env[Any, Any]]


@dataclass(frozen=True)
class Film:
    """An episode as H.264 video; a notebook shows it.

    Attributes:
        path: of the MP4.
        outcome: ``success``, ``failure``, or ``unknown`` where the environment does not say.
    """

    path: Path
    outcome: str

    def _repr_html_(self) -> str:
        video = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return (
            f'<video controls loop autoplay muted src="data:video/mp4;base64,{video}"></video>'
            f"<br>{self.outcome}: {self.path}"
        )


@dataclass(frozen=True)
class Evaluation:
    """What became of the episodes of a policy; made by `evaluate`, printed in one line.

    Attributes:
        env: id of the environment, or the name of its class.
        n: episodes.
        successes: how many succeeded; None where the environment does not report success, as for
            the next two.
        success: share of them.
        success_interval: its Wilson 95% interval, (low, high).
        score: mean over episodes of the largest reward.
        latency_ms: median milliseconds per chunk.
        nfe: network evaluations per chunk.
        episodes: each of them; episode i began from environment seed ``seed_start + i``.
        cell: all that is known, see `lfm_policy.evaluation.Cell`.
    """

    env: str
    n: int
    successes: int | None
    success: float | None
    success_interval: Interval | None
    score: float
    latency_ms: float
    nfe: float
    episodes: list[EpisodeResult]
    cell: Cell
    _subject: EvaluatedPolicy = field(repr=False, compare=False)
    _config: RolloutConfig = field(repr=False, compare=False)
    _wrapped: str = field(default="", repr=False, compare=False)

    @classmethod
    def of(
        cls, cell: Cell, subject: EvaluatedPolicy, config: RolloutConfig, wrapped: str = ""
    ) -> Evaluation:
        """Return the summary of a cell.

        Args:
            cell: results of one policy with one sampler.
            subject: the policy, for `film`.
            config: which episodes, where.
            wrapped: names of wrappers that an environment with an id had besides.
        """
        summary = cell.summary()
        interval = summary["success_interval"]
        return cls(
            env=config.env_id,
            n=summary["n"],
            successes=summary["successes"],
            success=summary["success_rate"],
            success_interval=None if interval is None else Interval(*interval),
            score=summary["score"],
            latency_ms=float(cell.latency["median_ms"]),
            nfe=cell.nfe,
            episodes=list(cell.episodes),
            cell=cell,
            _subject=subject,
            _config=config,
            _wrapped=wrapped,
        )

    def film(self, episode: int = 0, folder: str | Path = "films") -> Film:
        """Run an episode once more, of an environment with an id, and film it.

        The policy must have the sampler that it had.

        Args:
            episode: its number among all, those of one task after those of the other.
            folder: where the video goes, as ``episode_<i>_<outcome>.mp4``; of a policy of several
                tasks in a folder of the task's name.

        Returns:
            The film, which a notebook shows.

        Raises:
            InputError: there is no such episode, or the environment has no id or draws nothing.
            EvaluationError: the episode did not repeat itself.
        """
        if not 0 <= episode < self.n:
            raise InputError(f"episode is {episode}, expected 0 to {self.n - 1}")
        if TASK_FIELD not in self._config.env_id and (
            self._config.env_id.rpartition(":")[2] not in gym.registry
        ):
            raise InputError(
                f"'{self._config.env_id}' is no id of gymnasium: only an environment with an id "
                "can be made anew, to be filmed"
            )
        if self._wrapped:
            raise InputError(
                f"the environment that was given has wrappers ({self._wrapped}), with which it "
                "cannot be made anew, to be filmed: give the id of one that is made with them"
            )
        result = self.episodes[episode]
        config, folder = self._config, Path(folder)
        if result.task:
            (config,) = replace(config, tasks=(result.task,)).by_task(self._subject.spec.tasks)
            folder = folder / result.task
        record_videos(self._subject, config, [result], folder)
        outcome = outcome_of(result)
        return Film(folder / f"episode_{result.episode:04d}_{outcome}.mp4", outcome)

    def __str__(self) -> str:
        """Return one line."""
        said = "success not reported"
        if self.success is not None and self.success_interval is not None:
            low, high = map(percent, self.success_interval)
            said = (
                f"success {self.successes}/{self.n} = {percent(self.success)} (95% interval {low} "
                f"to {high})"
            )
        return (
            f"{self.env}, n = {self.n}: {said}, score {rounded(self.score, 3)}, NFE {self.nfe:g}, "
            f"{self.latency_ms:.2g} ms per chunk"
        )

    __repr__ = __str__


def evaluate(
    policy: EvaluatedPolicy | OnnxPolicy | str | Path,
    env: str | gym.Env[Any, Any] | EnvFactory | None = None,
    *,
    episodes: int = 50,
    tasks: Sequence[str | int] = (),
    seed_start: int = 100_000,
    noise_seed: int = 0,
    max_episode_steps: int | None = None,
    num_envs: int | None = None,
    processes: bool | None = None,
    success: str | None = None,
    observations: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Roll a policy out and report success with its interval, score and milliseconds.

    ::

        print(evaluate(policy, "lfm/PushT-v0", episodes=200))
        result = evaluate(policy, MyEnv())            # an environment of your own
        result = evaluate(policy, MyEnv, num_envs=8)  # several of them at a time
        result.success, result.success_interval, result.episodes[0].max_reward

    An environment has observations by name (a ``gymnasium.spaces.Dict`` with at least those of the
    policy), says success by ``info["success"]`` or ``info["is_success"]``, and begins from the
    seed that ``reset`` is given. Episode i starts from ``seed_start + i``, and the noise of its
    chunks depends on (``noise_seed``, i) alone: results do not depend on how many run at a time,
    nor on whether the environment is named or given.

    Args:
        policy: a policy, an exported one, or where either is; with the sampler that it has.
        env: a gymnasium id; an environment, which runs one episode after the other and stays open;
            or a function (a class) that makes one. By default what the policy was trained for.
        episodes: how many, in each of the tasks of a policy of several.
        tasks: names or numbers of these tasks; by default all where the environment's id has
            ``{task}`` in it, and else what the environment's observation ``task`` says.
        seed_start: test seeds start at 100,000; choose settings with seeds from 200,000 only.
        noise_seed: seed of the policy's noise.
        max_episode_steps: steps after which an episode is truncated; by default what the
            environment says, and else what the policy's configuration says.
        num_envs: environments at a time, of one that can be made.
        processes: one process for each of them; by default for slow simulators with an id.
        success: what says it: ``"info"``, the default, or ``"terminated"``, where the end of an
            episode before its time means success.
        observations: names for parts of what the environment observes, where it does not give it
            by the names of the policy: ``{"hand": [0, 3], "goal": [3, 6]}``, ``{"state": "all"}``,
            ``{"image": "pixels/top"}``; see ``env.observations``.
        quiet: no progress bar.

    Returns:
        Success with its interval, score, milliseconds, and every episode.

    Raises:
        InputError: the environment lacks an observation of the policy, takes other actions, cannot
            be made, or gives a reward that is no finite number; the message says what to do.

    Warns:
        NoSuccessReportedWarning: the environment never said whether an episode succeeded.
    """
    numbers = {
        "episodes": episodes,
        "num_envs": num_envs,
        "max_episode_steps": max_episode_steps,
    }
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, expected at least 1")
    if isinstance(tasks, str):
        raise InputError(f"tasks is '{tasks}', expected a list of names or numbers")
    subject = _subject(policy)
    configured = subject.config.env
    known = subject.spec.tasks
    seeds: dict[str, Any] = {
        "seed_start": seed_start,
        "noise_seed": noise_seed,
        "tasks": tuple(dict.fromkeys(known[task_number(known, task)] for task in tasks)),
    }
    reads: dict[str, Any] = {"success": success, "observations": observations}
    run, wrapped = rollout, ""
    if env is None or isinstance(env, str):
        chosen = chosen_environment(configured, env, max_episode_steps=max_episode_steps, **reads)
        env_id = chosen.id
        first = RolloutConfig(env_id, tasks=seeds["tasks"]).by_task(known)[0]
        number, processes = choose_workers(first.env_id, num_envs, processes)
        config = RolloutConfig.of(chosen, num_envs=number, processes=processes, **seeds)
    else:
        factory, env_id, number = _factory(env, num_envs, processes)
        spec = env.spec if isinstance(env, gym.Env) else None
        own = spec.max_episode_steps if spec is not None else None
        wrapped = ", ".join(w.name for w in spec.additional_wrappers) if spec is not None else ""
        steps = max_episode_steps or own or configured.max_episode_steps
        reading = reading_of(chosen_environment(EnvConfig(), **reads))
        run = partial(
            rollout,
            make=partial(
                _made,
                factory,
                steps,
                asked=max_episode_steps is not None,
                processes=processes,
                reading=reading,
            ),
        )
        made_with = {} if spec is None else dict(spec.kwargs)
        made_with.pop("render_mode", None)  # a film has its own
        config = RolloutConfig(
            env_id=env_id,
            max_episode_steps=steps,
            num_envs=number,
            processes=False,
            env_options=made_with,  # to make it anew, for a film
            reading=reading,
            **seeds,
        )
    cell = evaluate_present(subject, config, n_episodes=episodes, quiet=quiet, runner=run)
    return Evaluation.of(settled_cells([cell], env_id)[0], subject, config, wrapped)


def _subject(policy: EvaluatedPolicy | OnnxPolicy | str | Path) -> EvaluatedPolicy:
    if isinstance(policy, OnnxPolicy):
        exported = ExportedPolicy(policy.folder, threads=policy.threads)
        exported.n_action_steps = policy.n_action_steps  # which may have been changed
        return exported
    if isinstance(policy, (str, Path)):
        return ExportedPolicy(policy) if is_export(policy) else load_policy(policy)
    return policy


def _factory(
    env: gym.Env[Any, Any] | EnvFactory, num_envs: int | None, processes: bool | None
) -> tuple[EnvFactory, str, int]:
    """Return what makes environments, how to call them, and how many there are at a time."""
    if isinstance(env, gym.vector.VectorEnv):
        raise InputError(
            "env is a vector environment; give a function that makes a single one, and num_envs"
        )
    if isinstance(env, gym.Env):
        if (num_envs or 1) > 1 or processes:
            raise InputError(
                f"num_envs is {num_envs} and processes {processes}, but env is one environment: "
                "give a function that makes one, such as its class, instead"
            )
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        return partial(_Borrowed, env), name, 1
    if not callable(env):
        raise InputError(
            f"env is a {type(env).__name__}, expected a gymnasium id, an environment, or a "
            "function that makes one"
        )
    name = getattr(env, "__name__", type(env).__name__)
    return env, name, num_envs or ENVS_IN_ONE_PROCESS


class _Borrowed(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that stays open: whoever made it closes it."""

    def close(self) -> None:
        """Do nothing."""


def _made(
    factory: EnvFactory,
    steps: int,
    number: int,
    *,
    asked: bool,
    processes: bool | None,
    reading: Reading,
) -> Any:
    """Return so many environments; one that ends by itself is cut only where that is asked."""
    import lfm_envs

    probe = factory()
    if not isinstance(probe, gym.Env):
        raise InputError(
            f"env makes a {type(probe).__name__}, expected a gymnasium.Env: one of the old gym can "
            "be wrapped by shimmy"
        )
    own = _time_limit(probe)
    if asked and own is not None and own < steps:
        raise InputError(
            f"max_episode_steps is {steps}, but the environment ends every episode after {own} by "
            "a TimeLimit of its own: give one without, or its id"
        )
    limit = steps if asked or own is None else None
    try:
        if processes:
            reading.of(probe)  # what it lacks is said here
            probe.close()
            return lfm_envs.vector_env_of(
                [lfm_envs.FrozenFactory(factory, limit, reading)] * number, processes=True
            )
        made = [probe, *(factory() for _ in range(number - 1))]
        if len({id(env.unwrapped) for env in made}) < number:
            raise InputError(
                "env returned the same environment twice, which cannot be in several episodes at "
                "a time: give the environment itself, or a function that makes a new one each time"
            )
        rest = iter(made)
        return lfm_envs.vector_env_of(
            [lfm_envs.FrozenFactory(lambda: next(rest), limit, reading)] * number
        )
    except ObservationError as error:
        raise InputError(f"observations: {error}") from None


def _time_limit(env: gym.Env[Any, Any]) -> int | None:
    """Return after how many steps the wrappers of an environment truncate it; None: never."""
    limits = []
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            limits.append(env._max_episode_steps)
        env = env.env
    return min(limits, default=None)
