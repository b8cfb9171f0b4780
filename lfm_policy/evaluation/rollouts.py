"""The evaluation loop: episodes in parallel environments, every one counted exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lfm_envs
import numpy as np

from lfm_policy.environments import TASK_FIELD, check_env_spaces
from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.evaluation.batching import ChunkRequest, predict_chunks
from lfm_policy.evaluation.environments import make_environments
from lfm_policy.evaluation.episodes import (
    EpisodeResult,
    RolloutConfig,
    Running,
)
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_runtime.policy.spec import TASK_KEY
from lfm_runtime.policy.tasks import one_hot

MAXIMUM_ROLLOUT_ENVS = 1024
MAXIMUM_CRASHES = 3
"""Times that the process of one episode may die before the evaluation gives up."""


def rollout(
    policy: EvaluatedPolicy,
    config: RolloutConfig,
    episodes: Sequence[int],
    *,
    on_episode: Callable[[EpisodeResult], None] | None = None,
    on_step: Callable[[Sequence[Running | None], Any], None] | None = None,
    on_restart: Callable[[Sequence[int]], None] | None = None,
    render_size: int | None = None,
    module_folder: str | None = None,
    make: Callable[[int], Any] | None = None,
) -> list[EpisodeResult]:
    """Run episodes and return their results in the order of ``episodes``.

    An environment whose episode is over is frozen until the chunk has been played out, then
    takes the next episode. When the process of an environment dies, new ones are started and the
    episodes that were running begin again; since an episode depends on its number alone, with the
    same result.

    Args:
        policy: what is evaluated.
        config: see `RolloutConfig`; of one task, see `RolloutConfig.by_task`.
        episodes: their numbers; each is run once.
        on_episode: called with each result as it comes.
        on_step: called after every reset and step with what runs in each environment (None when
            it is over) and the vector environment, to render it.
        on_restart: called with the episodes that begin again, before they do; what ``on_step`` was
            told of them is void.
        render_size: pixels of rendered frames; None: no rendering.
        module_folder: where the module of an environment ``module:Name-v0`` is looked for; None is
            the working folder.
        make: makes so many environments to be stepped together, as `lfm_envs.vector_env_of` does,
            instead of those that ``config`` names.

    Raises:
        InputError: the environment does not exist, its simulator is missing, it lacks an
            observation of the policy, its actions have another size or other units, or it gives an
            observation or a reward that is no finite number.
        EvaluationError: processes of environments died again and again.
    """
    if not episodes:
        return []
    if not 1 <= config.num_envs <= MAXIMUM_ROLLOUT_ENVS:
        raise InputError(f"num_envs is {config.num_envs}, expected 1 to {MAXIMUM_ROLLOUT_ENVS}")
    if len(config.tasks) > 1 or TASK_FIELD in config.env_id:
        raise ValueError("one task at a time: see RolloutConfig.by_task")
    loop = _Loop(policy, config, episodes, on_episode, on_step)
    while loop.unfinished:
        number = min(config.num_envs, loop.unfinished)
        envs = (
            make_environments(
                config.env_id,
                number,
                processes=config.processes,
                max_episode_steps=config.max_episode_steps,
                options=config.env_options,
                render_size=render_size,
                module_folder=module_folder,
                reading=config.reading,
            )
            if make is None
            else make(number)
        )
        try:
            check_env_spaces(
                policy.spec.untold() if loop.task else policy.spec,
                envs.single_observation_space,
                envs.single_action_space,
                env_id=config.env_id,
                action_range=_action_range(policy),
            )
            loop.run(envs)
        except lfm_envs.WorkerDiedError as error:
            again = loop.start_again(error.workers, error.how)
            if on_restart is not None:
                on_restart(again)
        except lfm_envs.MissingSimulatorError as error:  # of drawing, which only starts now
            raise InputError(str(error)) from None
        finally:
            envs.close()
    return [loop.results[episode] for episode in episodes]


def _action_range(policy: EvaluatedPolicy) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the smallest and largest actions of the demonstrations, where a policy knows them."""
    known = getattr(policy, "training_range", None)
    try:
        return None if known is None else known("action")
    except InputError:  # an export of an earlier version, which knows no ranges
        return None


class _Loop:
    """Episodes on their way through environments, which may be started anew under them."""

    def __init__(
        self,
        policy: EvaluatedPolicy,
        config: RolloutConfig,
        episodes: Sequence[int],
        on_episode: Callable[[EpisodeResult], None] | None,
        on_step: Callable[[Sequence[Running | None], Any], None] | None,
    ) -> None:
        self._policy = policy
        self._config = config
        self._waiting = list(dict.fromkeys(episodes))
        self._on_episode = on_episode
        self._on_step = on_step
        self.task = ""
        self._told: dict[str, np.ndarray] = {}
        if config.tasks:
            (self.task,) = config.tasks
            self._told[TASK_KEY] = one_hot(policy.spec.tasks, self.task)
        self._envs: Any = None
        # By the number of the environment; an idle one has none.
        self._running: dict[int, Running] = {}
        self._history: dict[str, np.ndarray] = {}
        self._restarts: Counter[int] = Counter()
        self._crashes: Counter[int] = Counter()
        self.results: dict[int, EpisodeResult] = {}

    @property
    def unfinished(self) -> int:
        """Number of episodes without a result."""
        return len(self._waiting) + len(self._running)

    def run(self, envs: Any) -> None:
        """Run all episodes that wait, to their end."""
        self._envs, self._history = envs, {}
        self._start_episodes()
        while self._running:
            plan = self._plan()
            for k in range(self._policy.n_action_steps):
                self._step(plan[:, k])
                if all(running.ended for running in self._running.values()):
                    break
            self._collect()
            self._start_episodes()

    def start_again(self, workers: Sequence[int], reason: str) -> list[int]:
        """Let the episodes that were running wait again, after processes have died.

        Args:
            workers: numbers of the environments whose processes died; all of them if none.
            reason: exit codes, for messages.

        Returns:
            The episodes that begin again.

        Raises:
            EvaluationError: one of them has crashed too often.
        """
        self._collect()
        again = [running.episode for _, running in sorted(self._running.items())]
        for j in workers or range(self._envs.num_envs):
            # Without an episode to blame, the next one is: there has to be an end to it.
            blamed = [self._running[j].episode] if j in self._running else self._waiting + again
            self._crashes.update(blamed[:1])
        for episode, crashes in self._crashes.items():
            if crashes >= MAXIMUM_CRASHES:
                raise EvaluationError(
                    f"episode {episode} (seed {self._config.seed_start + episode}) was given up: "
                    f"the process of its environment died {crashes} times, at last with {reason}"
                )
        self._restarts.update(again)
        self._waiting = again + self._waiting
        self._running = {}
        return again

    def _start_episodes(self) -> None:
        """Give every idle environment the next episode, if there is one."""
        idle = [j for j in range(self._envs.num_envs) if j not in self._running]
        starting = idle[: len(self._waiting)]
        if not starting:
            return
        seeds: list[int | None] = [None] * self._envs.num_envs
        mask = np.zeros(self._envs.num_envs, dtype=np.bool_)
        for j in starting:
            self._running[j] = Running(self._waiting.pop(0))
            seeds[j] = self._config.seed_start + self._running[j].episode
            mask[j] = True
        options = {} if mask.all() else {"options": {"reset_mask": mask}}
        obs, infos = self._envs.reset(seed=seeds, **options)
        for j in starting:
            self._require_sound(infos, j)
            self._running[j].begin(_info(infos, "success", j))
        obs = self._with_task(obs)
        for key in self._policy.spec.obs_shapes:
            # The first observation of an episode fills its history.
            frames = np.repeat(np.asarray(obs[key])[:, None], self._policy.n_obs_steps, axis=1)
            self._history.setdefault(key, frames)[mask] = frames[mask]
        self._require_finite({j: self._running[j] for j in starting})
        self._report_step()

    def _plan(self) -> np.ndarray:
        """Ask the policy for a chunk for every running episode, (num_envs, steps, action_dim)."""
        requests = [
            ChunkRequest(
                running.episode, running.chunks, {key: f[j] for key, f in self._history.items()}
            )
            for j, running in self._running.items()
        ]
        actions, nfe = predict_chunks(self._policy, requests, seed=self._config.noise_seed)
        plan = np.zeros(
            (self._envs.num_envs, self._policy.n_action_steps, self._policy.spec.action_dim),
            dtype=self._policy.spec.dtype("action"),
        )
        for (j, running), chunk, n in zip(self._running.items(), actions, nfe, strict=True):
            plan[j] = chunk
            running.chunks += 1
            running.evaluations += n
        return plan

    def _step(self, actions: np.ndarray) -> None:
        acting = {j: running for j, running in self._running.items() if not running.ended}
        # A copy: an environment may change what it is given.
        obs, rewards, terminated, truncated, infos = self._envs.step(actions.copy())
        obs = self._with_task(obs)
        for key, frames in self._history.items():
            frames[:, :-1] = frames[:, 1:]
            frames[:, -1] = np.asarray(obs[key])
        for j, running in acting.items():
            self._require_sound(infos, j)
            running.record(
                reward=float(rewards[j]),
                ended=bool(terminated[j] or truncated[j]),
                success=_info(infos, "success", j),
                coverage=_info(infos, "coverage", j),
            )
        self._require_finite(acting)
        self._report_step()

    def _require_sound(self, infos: Mapping[str, Any], j: int) -> None:
        """Check that one environment said nothing of a fault.

        Raises:
            InputError: it did.
        """
        fault = _info(infos, lfm_envs.FAULT_KEY, j)
        if fault is not None:
            raise InputError(f"{self._place(self._running[j])}: {fault}")

    def _require_finite(self, playing: Mapping[int, Running]) -> None:
        """Check the newest observations.

        Raises:
            InputError: one is NaN or infinite.
        """
        for key, frames in self._history.items():
            if frames.dtype == np.uint8:
                continue
            for j, running in playing.items():
                finite = np.isfinite(frames[j, -1])
                if not finite.all():
                    index = ", ".join(map(str, np.argwhere(~finite)[0]))
                    raise InputError(
                        f"{self._place(running)}: observation '{key}' is "
                        f"{frames[j, -1][~finite][0]}{f' (element {index})' if index else ''}, "
                        "expected finite numbers"
                    )

    def _place(self, running: Running) -> str:
        """Return where something happened, for messages."""
        return (
            f"environment '{self._config.env_id}', episode {running.episode} (seed "
            f"{self._config.seed_start + running.episode}), step {running.steps}"
        )

    def _collect(self) -> None:
        for j, running in sorted(self._running.items()):
            if running.ended:
                del self._running[j]
                restarts = self._restarts[running.episode]
                result = running.result(self._config.seed_start, restarts, self.task)
                self.results[result.episode] = result
                if self._on_episode is not None:
                    self._on_episode(result)

    def _with_task(self, obs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return observations with the task, the same in all environments."""
        number = self._envs.num_envs
        return {**obs, **{key: np.repeat(v[None], number, 0) for key, v in self._told.items()}}

    def _report_step(self) -> None:
        if self._on_step is not None:
            playing = [self._running.get(j) for j in range(self._envs.num_envs)]
            self._on_step(playing, self._envs)


def _info(infos: Mapping[str, Any], key: str, j: int) -> Any:
    """Return one environment's entry of a vector environment's infos; None when it has none."""
    if key not in infos or not infos.get(f"_{key}", np.ones(j + 1, dtype=bool))[j]:
        return None
    value = infos[key][j]
    return value.item() if hasattr(value, "item") else value
