"""Training rate against the bare forward, backward and optimiser step on the same machine.

The bare loop runs the same network, loss, batch size and AdamW on one batch that lies in memory;
the training loop adds what training needs: gathering windows, noise and times, gradient clipping,
learning rate schedule, weight average, NaN checks, metrics, progress bar. Both are timed in turns,
so that a busy machine slows both.

    python scripts/bench_training.py --dataset pusht_cchi_v7_replay.zarr
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from lfm_policy.config import load_config
from lfm_policy.training.run import TrainingRun


def bare_rate(run: TrainingRun, batch_size: int, steps: int) -> float:
    """Return steps per second of forward, backward and optimiser step, nothing else."""
    model = run.model
    block = model.flow_block(1)
    network = model.blocks[0].train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    x_l = torch.randn(batch_size, *model.chunk_shape)
    cond = torch.randn(batch_size, model.encoder.cond_dim)
    x_t, t = torch.randn_like(x_l), torch.rand(batch_size)
    target = torch.randn_like(x_l)
    network(x_t, t, cond)
    start = time.perf_counter()
    for _ in range(steps):
        loss = torch.nn.functional.mse_loss(block.network(x_t, t, cond), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return steps / (time.perf_counter() - start)


def full_rate(config_name: str, overrides: list[str], folder: Path) -> float:
    """Return steps per second of the training loop, as the run itself measured them."""
    config = load_config(config_name, overrides)
    run = TrainingRun(config, folder, device="cpu")
    checkpoint = run.run()
    training = json.loads((checkpoint / "config.json").read_text())["training"]
    return training["steps"] / training["train_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="PushT zarr replay buffer")
    parser.add_argument("--config", default="pusht/fm")
    parser.add_argument("--steps", type=int, default=600, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    overrides = [
        f"dataset.path={arguments.dataset}",
        f"training.total_steps={arguments.steps}",
        "training.warmup_steps=10",
    ]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in tqdm(range(arguments.rounds), desc="rounds"):
            config = load_config(arguments.config, overrides)
            probe = TrainingRun(config, Path(scratch) / f"probe{n}", device="cpu")
            bare = bare_rate(probe, config.training.batch_size, arguments.steps)
            full = full_rate(arguments.config, overrides, Path(scratch) / f"run{n}")
            rows.append((bare, full, bare / full))
    parameters = probe.model.parameter_counts()["block 1"]
    print(
        f"{arguments.config}: {parameters:,} parameters per block, batch "
        f"{config.training.batch_size}, {arguments.threads} thread(s)"
    )
    for bare, full, ratio in rows:
        print(f"  bare {bare:6.1f} steps/s   training {full:6.1f} steps/s   ratio {ratio:.3f}")
    print(f"median ratio: {statistics.median(ratio for _, _, ratio in rows):.3f}")


if __name__ == "__main__":
    main()
