"""Successful rollouts of a policy, as demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError
from lfm_policy.evaluation.episodes import RolloutConfig, no_success_message
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.policy import Policy


def record_successes(
    policy: Policy,
    config: RolloutConfig,
    *,
    n_successes: int,
    max_episodes: int,
    quiet: bool = False,
) -> tuple[ReplayBuffer, list[int]]:
    """Roll out episodes 0, 1, ... and keep the first ``n_successes`` that succeed.

    The environments must have an attribute ``state``, what demonstrations store of them.

    Args:
        policy: who demonstrates.
        config: where; its seeds must not be those of tests or selection.
        n_successes: episodes to keep.
        max_episodes: rollouts after which to give up.
        quiet: no progress bar.

    Returns:
        ``state`` (T, *shape) before each step and ``action`` (T, action_dim), float32, and the
        environment seeds of the episodes.

    Raises:
        InputError: too few episodes succeeded, or the environment does not report success.
    """
    states: dict[int, list[np.ndarray]] = {}
    actions: dict[int, list[np.ndarray]] = {}

    def keep(playing: Sequence[int | None], envs: Any, planned: np.ndarray) -> None:
        now = envs.get_attr("state")
        for j, episode in enumerate(playing):
            if episode is not None:
                states.setdefault(episode, []).append(np.asarray(now[j], dtype=np.float32))
                actions.setdefault(episode, []).append(planned[j].copy())

    def forget(again: Sequence[int]) -> None:
        for episode in again:
            states.pop(episode, None)
            actions.pop(episode, None)

    kept: list[int] = []
    reported = False
    with tqdm(total=n_successes, desc="demonstrations", unit="episode", disable=quiet) as bar:
        for begin in range(0, max_episodes, config.num_envs):
            episodes = range(begin, min(begin + config.num_envs, max_episodes))
            results = rollout(policy, config, episodes, on_action=keep, on_restart=forget)
            reported = reported or any(result.success is not None for result in results)
            for result in results:
                if result.success and len(kept) < n_successes:
                    kept.append(result.episode)
                    bar.update()
                else:
                    del states[result.episode], actions[result.episode]
            if len(kept) == n_successes:
                break
    if not reported:
        raise InputError(no_success_message(config.env_id))
    if len(kept) < n_successes:
        raise InputError(
            f"{len(kept)} of {max_episodes} episodes succeeded, expected {n_successes}: give more "
            "episodes or a better policy"
        )
    arrays = {
        "state": np.concatenate([np.stack(states[episode]) for episode in kept]),
        "action": np.concatenate([np.stack(actions[episode]) for episode in kept]),
    }
    ends = np.cumsum([len(states[episode]) for episode in kept])
    return ReplayBuffer(arrays, ends), [config.seed_start + episode for episode in kept]
