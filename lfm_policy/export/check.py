"""Whether an export does what the policy does that it was made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig, mcnemar_exact, rollout, successes_of
from lfm_policy.evaluation.episodes import no_success_message
from lfm_policy.evaluation.exported import ExportedPolicy
from lfm_policy.export.observations import ROLLOUT_SEEDS, Observations
from lfm_policy.policy import Policy, chunk_noise

TOLERANCE = 1e-4
"""Largest relative difference of a float32 export."""
SEED = 0
ROWS = 32


@dataclass(frozen=True)
class Difference:
    """How far the chunks of an export are from those of its policy.

    Attributes:
        largest: largest difference of an action, relative to the largest action of the policy in
            the same dimension; where the normaliser has an origin, counted from there.
        mean: mean of the same.
        n: observations compared.
        source: where they came from.
    """

    largest: float
    mean: float
    n: int
    source: str

    @property
    def within_tolerance(self) -> bool:
        """Whether it is what float32 in another order of operations may differ by."""
        return self.largest <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SuccessChange:
    """Success of a policy and of its export in the same episodes.

    Attributes:
        n: episodes.
        policy: successes of the policy.
        export: successes of the export.
        p_value: of McNemar's exact test.
        env_id: where.
        seed_start: episode i starts from environment seed ``seed_start + i``.
    """

    n: int
    policy: int
    export: int
    p_value: float
    env_id: str
    seed_start: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def compare_chunks(
    policy: Policy, exported: ExportedPolicy, observations: Observations, *, n: int
) -> Difference:
    """Compare chunks from ``n`` observations, each with its own noise."""
    shape = policy.chunk_shape
    noise = np.stack([chunk_noise(SEED, i, 0, shape).numpy() for i in range(n)])
    ours, theirs = [], []
    # Without observations a batch has one row.
    rows = ROWS if observations.batch else 1
    for begin in range(0, n, rows):
        part = {key: value[begin : begin + rows] for key, value in observations.batch.items()}
        given = torch.from_numpy(noise[begin : begin + rows])
        ours.append(policy.sample(part, noise=given).chunk.cpu().numpy())
        theirs.append(exported.sample(part, noise=given).chunk.numpy())
    reference = np.concatenate(ours)
    origin = policy.normalizer[ACTION_KEY].origin
    # Beside an offset of millions every difference would be small.
    sizes = np.abs(reference if origin is None else reference - origin.cpu().numpy())
    scale = np.maximum(sizes.max(axis=(0, 1)), np.finfo(np.float32).tiny)
    relative = np.abs(np.concatenate(theirs) - reference) / scale
    return Difference(float(relative.max()), float(relative.mean()), n, observations.source)


def compare_success(
    policy: Policy, exported: ExportedPolicy, *, n_episodes: int, num_envs: int = 32
) -> SuccessChange:
    """Roll out a policy and its export in the same episodes, those of selection and not of tests.

    Raises:
        InputError: the policy names no environment, its simulator is missing, or it does not
            report success.
    """
    env = policy.config.env
    config = RolloutConfig(
        env_id=env.id,
        seed_start=ROLLOUT_SEEDS,
        max_episode_steps=env.max_episode_steps,
        num_envs=num_envs,
        env_options=env.options,
    )
    results = [
        result
        for subject in (policy, exported)
        for result in rollout(subject, config, range(n_episodes))
    ]
    successes = successes_of(results)
    if successes is None:
        raise InputError(no_success_message(env.id))
    before, after = successes[:n_episodes], successes[n_episodes:]
    return SuccessChange(
        n=n_episodes,
        policy=sum(before),
        export=sum(after),
        p_value=mcnemar_exact(before, after),
        env_id=env.id,
        seed_start=ROLLOUT_SEEDS,
    )
