"""Whether an export does what the policy does that it was made of.

Chunks are compared on observations that the policy meets in use, successes in the same episodes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lfm_policy.checking.demonstrations import options_for
from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.data.windows import WindowIndex
from lfm_policy.errors import ExportError, InputError
from lfm_policy.evaluation import RolloutConfig, mcnemar_exact, rollout, successes_of
from lfm_policy.evaluation.episodes import no_success_message
from lfm_policy.evaluation.exported import ExportedPolicy
from lfm_policy.policy import ChunkResult, Policy, chunk_noise
from lfm_runtime.policy.spec import is_image

TOLERANCE = 1e-4
"""Largest relative difference of a float32 export."""
SEED = 0
ROWS = 32
FEW_EPISODES = 8
"""Of cameras whose frames a policy resizes."""
ROLLOUT_SEEDS = 200_000
"""Of choosing settings, not of tests."""


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


def require_same_chunks(
    policy: Policy, folder: Path, *, n: int = 100, dataset: str | None = None, precision: str
) -> Difference:
    """Compare an export with its policy; one that was not compared, or differs, is removed.

    Args:
        policy: what was exported.
        folder: the export.
        n: observations.
        dataset: path of the demonstrations that they are taken from; None: where they were in
            training.
        precision: of the export; only of ``fp32`` it is known what it may differ by.

    Raises:
        ExportError: it differs by more than `TOLERANCE`.
        InputError: the ``dataset`` that was named cannot be read.
    """
    try:
        observations = real_observations(policy, n, dataset=dataset)
        difference = compare_chunks(policy, ExportedPolicy(folder), observations, n=n)
        if precision == "fp32" and not difference.within_tolerance:
            raise ExportError(
                f"{folder}: the exported graph differs from PyTorch by {difference.largest:.2e} "
                f"of the largest action, expected at most {TOLERANCE:g}; the folder was removed"
            )
    except BaseException:
        # What was not checked, though that was asked for, must not be taken for what was.
        shutil.rmtree(folder)
        raise
    return difference


def compare_success(
    policy: Policy, exported: ExportedPolicy, *, n_episodes: int, num_envs: int = 32
) -> SuccessChange:
    """Roll out a policy and its export in the same episodes, those of selection and not of tests.

    Raises:
        InputError: the policy names no environment, its simulator is missing, or it does not
            report success.
    """
    config = _episodes(policy, num_envs)
    tasks = config.by_task(policy.spec.tasks)
    results = [
        result
        for subject in (policy, exported)
        for one in tasks
        for result in rollout(subject, one, range(n_episodes))
    ]
    successes = successes_of(results)
    if successes is None:
        raise InputError(no_success_message(config.env_id))
    n = n_episodes * len(tasks)
    before, after = successes[:n], successes[n:]
    return SuccessChange(
        n=n,
        policy=sum(before),
        export=sum(after),
        p_value=mcnemar_exact(before, after),
        env_id=config.env_id,
        seed_start=ROLLOUT_SEEDS,
    )


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
    source = f"random numbers in the range of the demonstrations ({'; '.join(reasons)})"
    return Observations(policy.fake_batch(n), source)


def _of_demonstrations(policy: Policy, n: int, dataset: str | None) -> Observations:
    config = policy.config.dataset
    if dataset is not None:
        config = options_for(dataset, policy, policy.config)
    shapes, size_of = policy.spec.obs_shapes, policy.config.encoder.frame_size
    if any(is_image(s) and size_of(k, (s[0], s[1], s[2])) != s[:2] for k, s in shapes.items()):
        # Training has kept them resized: to decode all at full size takes long, and much disk.
        few = min(config.max_episodes or FEW_EPISODES, FEW_EPISODES)
        config = dataclasses.replace(config, max_episodes=few)
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
    config = _episodes(policy, 4)
    seen = _Watched(policy)
    rollout(seen, config, range(4))
    histories = [
        {key: value[row] for key, value in batch.items()}
        for batch in seen.batches
        for row in range(config.num_envs)
    ]
    chosen = np.random.default_rng(SEED).integers(0, len(histories), n)
    batch = {key: np.stack([histories[i][key] for i in chosen]) for key in policy.spec.obs_shapes}
    return Observations(batch, f"rollouts in {config.env_id}")


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


def _episodes(policy: Policy, num_envs: int) -> RolloutConfig:
    """Return episodes of the policy's environment."""
    return RolloutConfig.of(policy.config.env, seed_start=ROLLOUT_SEEDS, num_envs=num_envs)
