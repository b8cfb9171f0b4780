"""Real observations to compare an export on: of the demonstrations, else of rollouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lfm_policy.data.windows import WindowIndex
from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig, rollout
from lfm_policy.policy import ChunkResult, Policy

SEED = 0
ROLLOUT_SEEDS = 200_000
"""Of choosing settings, not of tests."""


@dataclass(frozen=True)
class Observations:
    """Histories of observations by name, each (n, n_obs_steps, *shape), and where they are from."""

    batch: Mapping[str, np.ndarray]
    source: str


def real_observations(policy: Policy, n: int, *, dataset: str | None = None) -> Observations:
    """Return observation histories that the policy meets in use.

    They are random windows of its demonstrations if those can be read, else what it sees in its
    environment, else random numbers in the range of the demonstrations.

    Args:
        policy: whose observations.
        n: how many.
        dataset: path of the demonstrations; None: where they were in training.

    Raises:
        InputError: the ``dataset`` that was named cannot be read.
    """
    if not policy.spec.obs_shapes:
        return Observations({}, "a policy without observations")
    reasons = []
    try:
        return _of_demonstrations(policy, n, dataset)
    except InputError as error:
        if dataset is not None:
            raise
        reasons.append(str(error))
    try:
        return _of_rollouts(policy, n)
    except InputError as error:
        reasons.append(str(error))
    frames = [policy.fake_obs(seed) for seed in range(n * policy.n_obs_steps)]
    batch = {
        key: np.stack([frame[key] for frame in frames]).reshape(n, policy.n_obs_steps, *shape)
        for key, shape in policy.spec.obs_shapes.items()
    }
    return Observations(
        batch, f"random numbers in the range of the demonstrations ({'; '.join(reasons)})"
    )


def _of_demonstrations(policy: Policy, n: int, dataset: str | None) -> Observations:
    config = policy.config.dataset
    if dataset is not None:
        known = {field.name for field in dataclasses.fields(config)}
        if "path" not in known:
            raise InputError(f"{dataset}: datasets of format '{config.name}' have no path")
        config = dataclasses.replace(config, path=dataset)  # type: ignore[call-arg]
    buffer = config.load()
    buffer.check_shapes(policy.spec.obs_shapes, "the policy")
    index = WindowIndex(
        buffer.episode_ends,
        policy.n_obs_steps,
        policy.horizon,
        policy.n_action_steps,
        source=buffer.source,
    )
    chosen = np.random.default_rng(SEED).integers(0, len(index), n)
    steps = index.obs_indices.numpy()[chosen]
    batch = {key: np.asarray(buffer.arrays[key][steps]) for key in policy.spec.obs_shapes}
    return Observations(batch, f"windows of {buffer.source}")


def _of_rollouts(policy: Policy, n: int) -> Observations:
    env = policy.config.env
    config = RolloutConfig(
        env_id=env.id,
        seed_start=ROLLOUT_SEEDS,
        max_episode_steps=env.max_episode_steps,
        num_envs=4,
        env_options=env.options,
    )
    seen = _Watched(policy)
    rollout(seen, config, range(4))
    histories = [
        {key: value[row] for key, value in batch.items()}
        for batch in seen.batches
        for row in range(config.num_envs)
    ]
    chosen = np.random.default_rng(SEED).integers(0, len(histories), n)
    batch = {key: np.stack([histories[i][key] for i in chosen]) for key in policy.spec.obs_shapes}
    return Observations(batch, f"rollouts in {env.id}")


class _Watched:
    """A policy that remembers the observations it was asked about."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.batches: list[Mapping[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def sample(self, batch: Mapping[str, Any], *, noise: Tensor | None = None) -> ChunkResult:
        self.batches.append(batch)
        return self._policy.sample(batch, noise=noise)
