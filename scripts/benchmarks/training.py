"""Training rate against the bare forward, backward and optimiser step on the same machine.

The bare loop runs the same network, loss, batch size and AdamW on one batch that lies in memory;
the training loop adds what every step of a run needs: gathering windows, noise and times, gradient
clipping, learning rate schedule, weight average, NaN check, progress bar. Both take turns of a few
steps, so that a busy machine slows both.

    python scripts/benchmarks/training.py --dataset pusht_cchi_v7_replay.zarr
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from lfm_policy.config import load_config
from lfm_policy.training import BlockPlan, Run
from lfm_policy.training.run_folder.meters import RunningMean
from lfm_policy.training.trainer import Trainer


def bare_step(network: Any, batch_size: int, cond_dim: int) -> Callable[[], None]:
    """Return a forward, backward and optimiser step on one batch in memory, nothing else."""
    network.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    x, target = torch.randn(2, batch_size, *network.chunk_shape)
    t, cond = torch.rand(batch_size), torch.randn(batch_size, cond_dim)

    def step() -> None:
        torch.nn.functional.mse_loss(network(x, t, cond), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def full_step(run: Run) -> Callable[[], None]:
    """Return a step of the training loop as a run does it, with its NaN check and loss average."""
    trainer = Trainer(BlockPlan(run).part(1), run.accelerator, seed=run.config.seed)
    losses = RunningMean(torch.device("cpu"))
    bar = tqdm(total=run.config.training.total_steps, disable=True)

    def step() -> None:
        loss, _ = trainer.train_step()
        losses.add(loss)
        losses.finite()
        bar.update()

    return step


def seconds_of(step: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="PushT zarr replay buffer")
    parser.add_argument("--config", default="pusht/fm")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10, help="per turn")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config, [f"dataset.path={arguments.dataset}"])
    with tempfile.TemporaryDirectory() as scratch:
        full = full_step(Run(config, Path(scratch) / "full", device="cpu", quiet=True))
        model = Run(config, Path(scratch) / "bare", device="cpu", quiet=True).model
    batch_size = config.training.batch_size
    bare = bare_step(model.blocks[0], batch_size, model.encoder.cond_dim)
    for step in (bare, full):
        seconds_of(step, arguments.steps)
    turns = []
    for _ in tqdm(range(arguments.turns), desc="turns"):
        turns.append([seconds_of(step, arguments.steps) for step in (bare, full)])
    parameters = model.parameter_counts()["block 1"]
    bare_ms, full_ms = (1e3 * statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(b / a for a, b in turns)
    print(
        f"{arguments.config}: {parameters:,} parameters per block, batch {batch_size}, "
        f"{arguments.threads} thread(s), medians of {arguments.turns} turns of {arguments.steps}\n"
        f"  bare step {bare_ms:.2f} ms, training step {full_ms:.2f} ms, ratio {ratio:.3f}"
    )


if __name__ == "__main__":
    main()
