"""Milliseconds per chunk at batch 1."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lfm_policy.evaluation.subject import EvaluatedPolicy


def measure_latency(
    policy: EvaluatedPolicy, obs: Mapping[str, np.ndarray] | None = None, *, repeats: int = 100
) -> dict[str, Any]:
    """Time whole policy calls: normalise, encode, sample, un-normalise.

    Args:
        policy: what is timed, with its current sampler.
        obs: one observation frame; a random valid one when left out.
        repeats: timed calls, after a tenth as many (at least 5) untimed ones.

    Returns:
        ``median_ms``, ``p95_ms``, ``ms_per_evaluation`` (median over NFE), ``threads``,
        ``device``, ``repeats``.
    """
    frame = policy.fake_obs() if obs is None else obs
    batch = {
        key: torch.as_tensor(np.repeat(np.asarray(frame[key])[None, None], policy.n_obs_steps, 1))
        for key in policy.spec.obs_shapes
    }
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, *policy.chunk_shape, generator=generator).to(policy.device)
    for _ in range(max(5, repeats // 10)):
        result = policy.sample(batch, noise=noise)
    seconds = []
    for _ in range(repeats):
        _synchronise(policy.device)
        start = time.perf_counter()
        result = policy.sample(batch, noise=noise)
        _synchronise(policy.device)
        seconds.append(time.perf_counter() - start)
    median, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {
        "median_ms": float(median),
        "p95_ms": float(p95),
        "ms_per_evaluation": float(median) / result.nfe,
        "threads": torch.get_num_threads(),
        "device": str(policy.device),
        "repeats": repeats,
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
