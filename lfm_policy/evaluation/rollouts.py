"""The evaluation loop: episodes in parallel environments, every one counted exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.evaluation.batching import ChunkRequest, predict_chunks
from lfm_policy.policy import Policy

MAXIMUM_ROLLOUT_ENVS = 1024


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
    """

    env_id: str
    seed_start: int = 100_000
    noise_seed: int = 0
    max_episode_steps: int = 300
    num_envs: int = 32
    processes: bool = False


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
    """

    episode: int
    seed: int
    success: bool
    max_reward: float
    final_coverage: float | None
    steps: int
    chunks: int
    nfe: int


class _Running:
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
        self.steps += 1
        self.max_reward = max(self.max_reward, reward)
        self.success = self.success or success
        self.coverage = coverage
        self.ended = ended

    def result(self, seed_start: int) -> EpisodeResult:
        return EpisodeResult(
            episode=self.episode,
            seed=seed_start + self.episode,
            success=self.success,
            max_reward=float(self.max_reward),
            final_coverage=self.coverage,
            steps=self.steps,
            chunks=self.chunks,
            nfe=self.nfe,
        )


def rollout(
    policy: Policy,
    config: RolloutConfig,
    episodes: Sequence[int],
    *,
    on_episode: Callable[[EpisodeResult], None] | None = None,
    on_step: Callable[[Sequence[int | None], Any], None] | None = None,
    on_action: Callable[[Sequence[int | None], Any, np.ndarray], None] | None = None,
    render_size: int | None = None,
) -> list[EpisodeResult]:
    """Run episodes and return their results in the order of ``episodes``.

    An environment whose episode is over is frozen until the chunk has been played out, then
    takes the next episode.

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
        render_size: pixels of rendered frames; None: no rendering.

    Raises:
        InputError: the environment does not exist, its simulator is missing, it lacks an
            observation of the policy, or its action has another size.
    """
    if not episodes:
        return []
    number = min(config.num_envs, len(episodes))
    if not 1 <= config.num_envs <= MAXIMUM_ROLLOUT_ENVS:
        raise InputError(f"num_envs is {config.num_envs}, expected 1 to {MAXIMUM_ROLLOUT_ENVS}")
    envs = _make_envs(config, number, render_size)
    try:
        _check_spaces(policy, envs, config.env_id)
        loop = _Loop(policy, config, envs, list(episodes), on_episode, on_step, on_action)
        return loop.run()
    finally:
        envs.close()


class _Loop:
    def __init__(
        self,
        policy: Policy,
        config: RolloutConfig,
        envs: Any,
        episodes: list[int],
        on_episode: Callable[[EpisodeResult], None] | None,
        on_step: Callable[[Sequence[int | None], Any], None] | None,
        on_action: Callable[[Sequence[int | None], Any, np.ndarray], None] | None,
    ) -> None:
        self._policy = policy
        self._config = config
        self._envs = envs
        self._order = episodes
        self._waiting = list(episodes)
        self._on_episode = on_episode
        self._on_step = on_step
        self._on_action = on_action
        self._running: list[_Running | None] = [None] * envs.num_envs
        self._history: dict[str, np.ndarray] = {}
        self._results: dict[int, EpisodeResult] = {}

    def run(self) -> list[EpisodeResult]:
        self._start_episodes()
        while any(self._running):
            plan = self._plan()
            for k in range(self._policy.n_action_steps):
                self._step(plan[:, k])
                if all(running is None or running.ended for running in self._running):
                    break
            self._collect()
            self._start_episodes()
        return [self._results[episode] for episode in self._order]

    def _start_episodes(self) -> None:
        """Give every idle environment the next episode, if there is one."""
        idle = [j for j, running in enumerate(self._running) if running is None]
        starting = idle[: len(self._waiting)]
        if not starting:
            return
        seeds: list[int | None] = [None] * self._envs.num_envs
        mask = np.zeros(self._envs.num_envs, dtype=np.bool_)
        for j in starting:
            self._running[j] = _Running(self._waiting.pop(0))
            seeds[j] = self._config.seed_start + self._episode(j)
            mask[j] = True
        if mask.all():
            obs, _ = self._envs.reset(seed=seeds)
        else:
            obs, _ = self._envs.reset(seed=seeds, options={"reset_mask": mask})
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
            dtype=np.float32,
        )
        for j, chunk in zip(owners, actions, strict=True):
            running = self._running[j]
            assert running is not None
            plan[j] = chunk
            running.chunks += 1
            running.nfe = nfe
        return plan

    def _step(self, actions: np.ndarray) -> None:
        if self._on_action is not None:
            acting = [None if r is None or r.ended else r.episode for r in self._running]
            self._on_action(acting, self._envs, actions)
        obs, rewards, terminated, truncated, infos = self._envs.step(actions)
        for key, frames in self._history.items():
            frames[:, :-1] = frames[:, 1:]
            frames[:, -1] = np.asarray(obs[key])
        for j, running in enumerate(self._running):
            if running is None or running.ended:
                continue
            running.record(
                reward=float(rewards[j]),
                ended=bool(terminated[j] or truncated[j]),
                success=bool(_info(infos, "success", j)),
                coverage=_info(infos, "coverage", j),
            )
        self._report_step()

    def _collect(self) -> None:
        for j, running in enumerate(self._running):
            if running is not None and running.ended:
                result = running.result(self._config.seed_start)
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


def _make_envs(config: RolloutConfig, number: int, render_size: int | None) -> Any:
    if not config.env_id:
        raise InputError(
            "the checkpoint names no environment (env.id is empty); give one with --env, such as "
            "--env lfm/PushT-v0"
        )
    import gymnasium as gym
    import lfm_envs

    options: dict[str, Any] = {"max_episode_steps": config.max_episode_steps}
    if render_size is not None:
        options |= {"render_mode": "rgb_array", "render_size": render_size}
    try:
        return lfm_envs.make_vector_env(
            config.env_id, number, processes=config.processes, **options
        )
    except lfm_envs.MissingSimulatorError as error:
        raise InputError(str(error)) from None
    except gym.error.Error as error:
        raise InputError(f"environment '{config.env_id}' cannot be created: {error}") from None


def _check_spaces(policy: Policy, envs: Any, env_id: str) -> None:
    spaces = envs.single_observation_space
    for key, shape in policy.spec.obs_shapes.items():
        if key not in spaces.spaces:
            raise InputError(
                f"environment '{env_id}' gives no observation '{key}': it gives "
                f"{', '.join(spaces.spaces)}; the policy was trained on "
                f"{', '.join(policy.spec.obs_shapes)}"
            )
        if tuple(spaces[key].shape) != tuple(shape):
            raise InputError(
                f"environment '{env_id}': observation '{key}' has shape {spaces[key].shape}, the "
                f"policy was trained on {tuple(shape)}"
            )
    action_shape = tuple(envs.single_action_space.shape)
    if action_shape != (policy.spec.action_dim,):
        raise InputError(
            f"environment '{env_id}' takes actions of shape {action_shape}, the policy gives "
            f"({policy.spec.action_dim},)"
        )
