"""Milliseconds per chunk at batch 1."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from lfm_policy.evaluation.subject import EvaluatedPolicy


def measure_latency(policy: EvaluatedPolicy, *, repeats: int = 100) -> dict[str, Any]:
    """Time whole policy calls: normalise, encode, sample, un-normalise.

    Args:
        policy: what is timed, with its current sampler.
        repeats: timed calls, after a tenth as many (at least 5) untimed ones.

    Returns:
        ``median_ms``, ``p95_ms``, ``ms_per_evaluation`` (median over NFE), ``threads``,
        ``device``, ``repeats``.
    """
    batch = policy.fake_batch()
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
