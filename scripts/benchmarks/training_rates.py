"""Gradient steps per second of policies from state and from cameras, on a CPU and on a GPU.

One row for each policy and way of training it. On a GPU the share of the card is what the matrix
products and convolutions of a step come to, divided by what the card reaches in products of large
bf16 matrices, measured before; beside it stands what one thread of the CPU does. Without --dataset
the data are random numbers of PushT's shapes. All rows of a GPU take about ten minutes, most of
which torch.compile does; --minutes begins no more of them after so long.

    python scripts/benchmarks/training_rates.py --device cuda --dataset pusht_cchi_v7_replay.zarr \\
        --minutes 8 --output rates.json
    python scripts/benchmarks/training_rates.py --device cpu --seconds 20 --rows mlp unet
    python scripts/benchmarks/training_rates.py --device cuda --profile resnet-bf16
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from lfm_policy.config import load_config
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.training import BlockPlan, Run
from lfm_policy.training.trainer import Trainer
from lfm_runtime.disk.files import write_text

CAMERA = ["training.encoder=joint", "training.encoder_batch_size=256", "flow.n_blocks=3"]
CAMERA += ["flow.step_sizes=[0.01,0.1]", "sampler.nfe=6"]
U_NETS = ["network.name=unet1d", "network.channels=[64,128]"]
RESNET = [*CAMERA, *U_NETS, "encoder.image.name=resnet18"]
BF16 = ["training.mixed_precision=bf16"]
COMPILE = ["training.compile=true"]
LAUNCHED = ["training.cuda_graphs=false"]

ROWS: dict[str, tuple[str, int, list[str]]] = {
    "mlp": ("pusht/lfm3", 1, []),
    "mlp-bf16-products": ("pusht/lfm3", 1, ["training.bf16_products=true"]),
    "mlp-launched": ("pusht/lfm3", 1, LAUNCHED),
    "unet": ("pusht/lfm3_unet", 1, []),
    "unet-launched": ("pusht/lfm3_unet", 1, LAUNCHED),
    "unet-tf32": ("pusht/lfm3_unet", 1, ["training.tf32=true"]),
    "unet-bf16": ("pusht/lfm3_unet", 1, BF16),
    "unet-compile": ("pusht/lfm3_unet", 1, [*COMPILE, "training.tf32=true"]),
    "unet-compile-bf16": ("pusht/lfm3_unet", 1, [*COMPILE, *BF16]),
    "compact": ("pusht/image_lfm", 0, CAMERA),
    "compact-bf16": ("pusht/image_lfm", 0, [*CAMERA, *BF16]),
    "compact-compile-bf16": ("pusht/image_lfm", 0, [*CAMERA, *BF16, *COMPILE]),
    "compact-unets-bf16": ("pusht/image_lfm", 0, [*CAMERA, *U_NETS, *BF16]),
    "resnet-launched-bf16": ("pusht/image_lfm", 0, [*RESNET, *BF16, *LAUNCHED]),
    "resnet": ("pusht/image_lfm", 0, RESNET),
    "resnet-bf16": ("pusht/image_lfm", 0, [*RESNET, *BF16]),
    "resnet-compile-bf16": ("pusht/image_lfm", 0, [*RESNET, *BF16, *COMPILE]),
}
"""Configuration, the part that is trained (0: encoder and blocks together), and options."""

ON_A_CPU = ["mlp", "unet", "compact", "resnet"]


def random_demonstrations(path: Path) -> Path:
    """Write random numbers of the shapes of PushT's demonstrations."""
    rng = np.random.default_rng(0)
    steps, n_episodes = 6_000, 50
    arrays = {
        "action": rng.uniform(0, 512, (steps, 2)).astype(np.float32),
        "state": rng.uniform(0, 512, (steps, 5)).astype(np.float32),
        "keypoint": rng.uniform(0, 512, (steps, 9, 2)).astype(np.float32),
        "img": rng.integers(0, 255, (steps, 96, 96, 3), np.uint8),
    }
    write_zarr(path, ReplayBuffer(arrays, np.arange(1, n_episodes + 1) * (steps // n_episodes)))
    return path


def peak_flops(device: torch.device) -> float:
    """Return the operations per second of products of large bf16 matrices."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate_of(trainer: Trainer, device: torch.device, seconds: float) -> float:
    """Return the steps per second of a trainer that is warm."""
    wait(device)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            trainer.train_step()
            count += 1
        wait(device)
    return count / (time.perf_counter() - start)


def flops_of(trainer: Trainer) -> int:
    """Return the operations of a step's matrix products and convolutions."""
    batch = trainer._rows.batch(trainer._order.batch(0), training=True)
    with FlopCounterMode(display=False) as counter:
        trainer.loss(*batch).backward()
    trainer.loss.zero_grad(set_to_none=True)
    total: int = counter.get_total_flops()
    return total


def trainer_of(name: str, dataset: Path, folder: Path, device: str, *more: str) -> Trainer:
    """Return the trainer of a row."""
    config_name, part, changes = ROWS[name]
    own = [f"dataset.path={dataset}", "training.tracker=none", *changes, *more]
    if device == "cpu":
        own.append("training.num_threads=1")
    run = Run(load_config(config_name, own), folder / name, device=device, quiet=True)
    return Trainer(BlockPlan(run).part(part), run.accelerator, seed=0)


def measure(
    name: str, dataset: Path, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return what a row came to."""
    on_cpu = 0.0
    if arguments.device == "cuda" and name in ON_A_CPU and arguments.cpu_seconds:
        alone = trainer_of(name, dataset, folder, "cpu")
        alone.train_step()
        on_cpu = rate_of(alone, torch.device("cpu"), arguments.cpu_seconds)
    trainer = trainer_of(name, dataset, folder, arguments.device)
    counted = trainer
    if COMPILE[0] in ROWS[name][2]:  # compiled networks hide what they do
        counted = trainer_of(name, dataset, folder, arguments.device, "training.compile=false")
    flops = flops_of(counted)
    start = time.perf_counter()
    for _ in range(8):
        trainer.train_step()
    wait(trainer._device)
    begun = time.perf_counter() - start
    if arguments.profile:
        profile(trainer, folder)
    rate = rate_of(trainer, trainer._device, arguments.seconds)
    batch = trainer._options.batch_size
    row = {"row": name, "batch": batch, "rate": rate, "begun_s": begun, "flops": flops}
    return row | ({"rate_on_cpu": on_cpu} if on_cpu else {})


def profile(trainer: Trainer, folder: Path) -> None:
    """Print where the time of ten steps goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profiled(activities=kinds if torch.cuda.is_available() else kinds[:1]) as found:
        for _ in range(10):
            trainer.train_step()
        wait(trainer._device)
    key = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=90))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--dataset", type=Path, help="PushT zarr replay buffer with images")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="default: all, on a CPU some")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row, once it is warm")
    parser.add_argument(
        "--cpu-seconds", type=float, default=4.0, help="of rows beside a GPU's on the CPU; 0: none"
    )
    parser.add_argument("--minutes", type=float, help="begin no more rows after so long")
    parser.add_argument("--profile", metavar="ROW", choices=ROWS, help="say where its time goes")
    parser.add_argument("--output", type=Path, help="JSON file of what was measured")
    arguments = parser.parse_args()
    names = arguments.rows or (ON_A_CPU if arguments.device == "cpu" else list(ROWS))
    if arguments.profile:
        names = [arguments.profile]
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = arguments.dataset or random_demonstrations(folder / "random.zarr")
        peak = peak_flops(torch.device("cuda")) if arguments.device == "cuda" else 0.0
        if peak:
            card = torch.cuda.get_device_name()
            print(f"{card}: {peak / 1e12:.0f} TFLOP/s in products of bf16 matrices of 8192 x 8192")
        begun = time.perf_counter()
        for name in tqdm(names, unit="row"):
            if arguments.minutes and time.perf_counter() - begun > 60 * arguments.minutes:
                tqdm.write(f"left out after {arguments.minutes:g} minutes: {name} and what follows")
                break
            row = measure(name, dataset, folder, arguments)
            found.append(row)
            share = f", {100 * row['flops'] * row['rate'] / peak:.1f}% of the card" if peak else ""
            alone = row.get("rate_on_cpu")
            beside = f"; {alone:,.1f} on one thread of the CPU" if alone else ""
            tqdm.write(
                f"{name}: {row['rate']:,.1f} steps per second of {row['batch']} "
                f"({1e3 / row['rate']:.2f} ms, {row['flops'] / 1e9:.1f} GFLOP{share}); the first 8 "
                f"steps took {row['begun_s']:.1f} s{beside}"
            )
            if arguments.output:
                card = torch.cuda.get_device_name() if peak else ""
                text = json.dumps({"card": card, "peak": peak, "rows": found}, indent=2)
                write_text(arguments.output, text + "\n")


if __name__ == "__main__":
    main()
