"""Milliseconds per network evaluation and per chunk at batch 1, plain PyTorch; data loading too.

python scripts/bench_policy.py runs/pusht-fm --dataset pusht_cchi_v7_replay.zarr
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from lfm_policy import load_policy
from lfm_policy.evaluation import measure_latency
from lfm_policy.training.rows.data import load_datasets


def median_ms(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return median and 95th percentile of a call's milliseconds."""
    for _ in range(max(5, repeats // 10)):
        function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    median, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return float(median), float(p95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--dataset", help="zarr replay buffer: times loading and batches as well")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policy = load_policy(arguments.checkpoint)
    x = torch.randn(1, *policy.model.chunk_shape)
    t = torch.rand(1)
    print(f"{arguments.checkpoint}: {arguments.threads} thread(s), batch 1, median / p95 ms")
    with torch.inference_mode():
        networks: list[Any] = list(policy.model.blocks)
        for n, network in enumerate(networks, start=1):
            # An encoder for each block gives every block a part of its own.
            cond = torch.randn(1, network.cond_dim)
            median, p95 = median_ms(partial(network, x, t, cond), arguments.repeats)
            count = sum(p.numel() for p in network.parameters())
            print(f"  one evaluation of block {n} ({count:,} parameters): {median:.3f} / {p95:.3f}")
    for nfe in (1, 2, 4, 8, 16):
        if nfe < policy.model.n_blocks:
            continue
        policy.set_sampler(solver="euler", nfe=nfe)
        timing = measure_latency(policy, repeats=arguments.repeats)
        print(f"  chunk, NFE {nfe:2d}: {timing['median_ms']:.3f} / {timing['p95_ms']:.3f}")
    if arguments.dataset:
        dataset: Any = policy.config.dataset
        dataset.path = arguments.dataset
        start = time.perf_counter()
        data = load_datasets(policy.config)
        print(f"  loading {arguments.dataset}: {time.perf_counter() - start:.2f} s")
        idx = torch.randint(len(data.train), (256,))
        median, p95 = median_ms(
            lambda: (data.train.gather_action(idx), data.train.gather_obs(idx)), arguments.repeats
        )
        print(f"  batch of 256 windows: {median:.3f} / {p95:.3f}")


if __name__ == "__main__":
    main()
