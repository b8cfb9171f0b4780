"""The evaluation loop: episodes in parallel environments, every one counted exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.evaluation.batching import ChunkRequest, predict_chunks
from lfm_policy.evaluation.environments import check_spaces, make_environments
from lfm_policy.evaluation.episodes import EpisodeResult, RolloutConfig, Running
from lfm_policy.evaluation.subject import EvaluatedPolicy

MAXIMUM_ROLLOUT_ENVS = 1024
MAXIMUM_CRASHES = 3
"""Times that the process of one episode may die before the evaluation gives up."""


def rollout(
    policy: EvaluatedPolicy,
    config: RolloutConfig,
    episodes: Sequence[int],
    *,
    on_episode: Callable[[EpisodeResult], None] | None = None,
    on_step: Callable[[Sequence[int | None], Any], None] | None = None,
    on_action: Callable[[Sequence[int | None], Any, np.ndarray], None] | None = None,
    on_restart: Callable[[Sequence[int]], None] | None = None,
    render_size: int | None = None,
    module_folder: str | None = None,
) -> list[EpisodeResult]:
    """Run episodes and return their results in the order of ``episodes``.

    An environment whose episode is over is frozen until the chunk has been played out, then
    takes the next episode. When the process of an environment dies, new ones are started and the
    episodes that were running begin again; since an episode depends on its number alone, with the
    same result.

    Args:
        policy: what is evaluated.
        config: see `RolloutConfig`.
        episodes: their numbers; each is run once.
        on_episode: called with each result as it comes.
        on_step: called after every reset and step with the episode in each environment (None when
            it is over) and the vector environment, to render it.
        on_action: called before every step with the same two and the actions (num_envs,
            action_dim) about to be done; the episode is None also where it has ended within the
            chunk.
        on_restart: called with the episodes that begin again, before they do; what the other
            functions were told of them is void.
        render_size: pixels of rendered frames; None: no rendering.
        module_folder: where the module of an environment ``module:Name-v0`` is looked for; None is
            the working folder.

    Raises:
        InputError: the environment does not exist, its simulator is missing, it lacks an
            observation of the policy, its action has another size, or it gives a reward that is
            no finite number.
        EvaluationError: processes of environments died again and again.
    """
    if not episodes:
        return []
    if not 1 <= config.num_envs <= MAXIMUM_ROLLOUT_ENVS:
        raise InputError(f"num_envs is {config.num_envs}, expected 1 to {MAXIMUM_ROLLOUT_ENVS}")
    import lfm_envs

    loop = _Loop(policy, config, list(episodes), on_episode, on_step, on_action)
    while loop.unfinished:
        envs = make_environments(
            config.env_id,
            min(config.num_envs, loop.unfinished),
            processes=config.processes,
            max_episode_steps=config.max_episode_steps,
            options=config.env_options,
            render_size=render_size,
            module_folder=module_folder,
        )
        try:
            check_spaces(policy, envs, config.env_id)
            loop.run(envs)
        except lfm_envs.WorkerDiedError as error:
            again = loop.start_again(error.workers, error.how)
            if on_restart is not None:
                on_restart(again)
        except lfm_envs.MissingSimulatorError as error:  # of drawing, which only starts now
            raise InputError(str(error)) from None
        finally:
            envs.close()
    return loop.results()


class _Loop:
    def __init__(
        self,
        policy: EvaluatedPolicy,
        config: RolloutConfig,
        episodes: list[int],
        on_episode: Callable[[EpisodeResult], None] | None,
        on_step: Callable[[Sequence[int | None], Any], None] | None,
        on_action: Callable[[Sequence[int | None], Any, np.ndarray], None] | None,
    ) -> None:
        self._policy = policy
        self._config = config
        self._order = episodes
        self._waiting = list(dict.fromkeys(episodes))
        self._on_episode = on_episode
        self._on_step = on_step
        self._on_action = on_action
        self._envs: Any = None
        self._running: list[Running | None] = []
        self._history: dict[str, np.ndarray] = {}
        self._results: dict[int, EpisodeResult] = {}
        self._restarts: Counter[int] = Counter()
        self._crashes: Counter[int] = Counter()

    @property
    def unfinished(self) -> int:
        """Number of episodes without a result."""
        return len(set(self._order)) - len(self._results)

    def results(self) -> list[EpisodeResult]:
        return [self._results[episode] for episode in self._order]

    def run(self, envs: Any) -> None:
        """Run all episodes that wait, to their end."""
        self._envs, self._history = envs, {}
        self._running = [None] * envs.num_envs
        self._start_episodes()
        while any(self._running):
            plan = self._plan()
            for k in range(self._policy.n_action_steps):
                self._step(plan[:, k])
                if all(running is None or running.ended for running in self._running):
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
        for j in workers or range(len(self._running)):
            running = self._running[j]
            if running is None:
                # Without an episode to blame, the next one is: there has to be an end to it.
                waiting = self._waiting or [r.episode for r in self._running if r is not None]
                self._crashes.update(waiting[:1])
            else:
                self._crashes[running.episode] += 1
        for episode, crashes in self._crashes.items():
            if crashes >= MAXIMUM_CRASHES:
                raise EvaluationError(
                    f"episode {episode} (seed {self._config.seed_start + episode}) was given up: "
                    f"the process of its environment died {crashes} times, at last with {reason}"
                )
        again = [running.episode for running in self._running if running is not None]
        self._restarts.update(again)
        self._waiting = again + self._waiting
        return again

    def _start_episodes(self) -> None:
        """Give every idle environment the next episode, if there is one."""
        idle = [j for j, running in enumerate(self._running) if running is None]
        starting = idle[: len(self._waiting)]
        if not starting:
            return
        seeds: list[int | None] = [None] * self._envs.num_envs
        mask = np.zeros(self._envs.num_envs, dtype=np.bool_)
        for j in starting:
            self._running[j] = Running(self._waiting.pop(0))
            seeds[j] = self._config.seed_start + self._episode(j)
            mask[j] = True
        if mask.all():
            obs, infos = self._envs.reset(seed=seeds)
        else:
            obs, infos = self._envs.reset(seed=seeds, options={"reset_mask": mask})
        for j in starting:
            running = self._running[j]
            assert running is not None
            running.begin(_info(infos, "success", j))
        n_obs_steps = self._policy.n_obs_steps
        for key in self._policy.spec.obs_shapes:
            frames = np.repeat(np.asarray(obs[key])[:, None], n_obs_steps, axis=1)
            if key in self._history:
                # The first observation of an episode fills its history.
                self._history[key][mask] = frames[mask]
            else:
                self._history[key] = frames
        self._report_step()

    def _plan(self) -> np.ndarray:
        """Ask the policy for a chunk for every running episode, (num_envs, steps, action_dim)."""
        requests, owners = [], []
        for j, running in enumerate(self._running):
            if running is not None:
                obs = {key: frames[j] for key, frames in self._history.items()}
                requests.append(ChunkRequest(running.episode, running.chunks, obs))
                owners.append(j)
        actions, nfe = predict_chunks(self._policy, requests, seed=self._config.noise_seed)
        plan = np.zeros(
            (self._envs.num_envs, self._policy.n_action_steps, self._policy.spec.action_dim),
            dtype=self._policy.spec.dtype("action"),
        )
        for j, chunk in zip(owners, actions, strict=True):
            running = self._running[j]
            assert running is not None
            plan[j] = chunk
            running.chunks += 1
            running.nfe = nfe
        return plan

    def _step(self, actions: np.ndarray) -> None:
        import lfm_envs

        if self._on_action is not None:
            acting = [None if r is None or r.ended else r.episode for r in self._running]
            self._on_action(acting, self._envs, actions.copy())
        # A copy each: neither callbacks nor environments may change what the other is given.
        obs, rewards, terminated, truncated, infos = self._envs.step(actions.copy())
        for key, frames in self._history.items():
            frames[:, :-1] = frames[:, 1:]
            frames[:, -1] = np.asarray(obs[key])
        for j, running in enumerate(self._running):
            if running is None or running.ended:
                continue
            fault = _info(infos, lfm_envs.FAULT_KEY, j)
            if fault is not None:
                raise InputError(
                    f"environment '{self._config.env_id}', episode {running.episode} (seed "
                    f"{self._config.seed_start + running.episode}), step {running.steps}: {fault}"
                )
            running.record(
                reward=float(rewards[j]),
                ended=bool(terminated[j] or truncated[j]),
                success=_info(infos, "success", j),
                coverage=_info(infos, "coverage", j),
            )
        self._report_step()

    def _collect(self) -> None:
        for j, running in enumerate(self._running):
            if running is not None and running.ended:
                restarts = self._restarts[running.episode]
                result = running.result(self._config.seed_start, restarts)
                self._results[result.episode] = result
                self._running[j] = None
                if self._on_episode is not None:
                    self._on_episode(result)

    def _report_step(self) -> None:
        if self._on_step is not None:
            playing = [r.episode if r is not None else None for r in self._running]
            self._on_step(playing, self._envs)

    def _episode(self, j: int) -> int:
        running = self._running[j]
        assert running is not None
        return running.episode


def _info(infos: Mapping[str, Any], key: str, j: int) -> Any:
    """Return one environment's entry of a vector environment's infos; None when it has none."""
    if key not in infos or not infos.get(f"_{key}", np.ones(j + 1, dtype=bool))[j]:
        return None
    value = infos[key][j]
    return value.item() if hasattr(value, "item") else value
