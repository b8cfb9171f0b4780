"""Milliseconds per chunk at batch 1: the rows of docs/results/latency.md.

Ours from observations to actions, with all of normalisation, encoder, sampler and checks: teacher
and students of PushT state and images in PyTorch, compiled, and exported for ONNX Runtime; our
network in the loops of Diffusion Policy (DDIM with 10 steps, DDPM with 100); and LeRobot's
DiffusionPolicy, if a folder is given that holds it:

    pip install --no-deps --target lerobot-only lerobot==0.4.4 torchvision draccus ...
    python scripts/benchmarks/latency.py --lerobot lerobot-only --data docs/results/data
    python scripts/results/write.py                                 # the pages, of the data
    python scripts/benchmarks/latency.py --only "PushT image" --data docs/results/data  # some rows
    python scripts/benchmarks/latency.py --policy runs/pusht-fm     # one network, and its chunks

Run it on a machine that does nothing else: every row is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lfm_runtime.benchmark import computer, peak_mib, run_alone, timed
from lfm_runtime.disk.files import write_json

ENGINES = ("eager", "compile", "onnx-fp32", "onnx-int8")

Timed = tuple[Callable[[], object], int]
"""What is called, and how many parameters take part."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: what is timed.
        kind: ``ours``, ``network`` (one evaluation of it), ``diffusers`` or ``lerobot``.
        policy: name or folder of a policy (ours, network, diffusers).
        nfe: network evaluations per chunk.
        solver: of ours; name of a scheduler of diffusers.
        engine: ``eager``, ``compile``, ``onnx-fp32`` or ``onnx-int8``.
        one_block: time a policy of one block with the network of ``policy``, random weights.
        repeats: timed calls.
    """

    label: str
    kind: str
    policy: str = ""
    nfe: int = 1
    solver: str = "euler"
    engine: str = "eager"
    one_block: bool = False
    repeats: int = 300


def rows_of_table(lerobot: str) -> list[Row]:
    """Return the rows of latency.json."""
    found = []
    for name, title, teacher, sampler, student in (
        ("state", "teacher", "pusht-state-teacher", (6, "euler"), "pusht-state"),
        ("image", "as many steps", "pusht-image", (64, "midpoint"), "pusht-image"),
    ):
        for engine in ENGINES:
            found += [
                Row(f"PushT {name}, {title}", "ours", teacher, *sampler, engine, repeats=100),
                Row(f"PushT {name}", "ours", student, 4, engine=engine),
                Row(f"PushT {name}, student", "ours", student, 2, engine=engine),
                Row(f"PushT {name}, one block", "ours", student, 1, engine=engine, one_block=True),
            ]
        for scheduler, nfe in (("DDIMScheduler", 10), ("DDPMScheduler", 100)):
            label = f"PushT {name}, {scheduler.removesuffix('Scheduler')}"
            found.append(
                Row(label, "diffusers", student, nfe, scheduler, one_block=True, repeats=50)
            )
    if lerobot:
        label = "LeRobot DiffusionPolicy, PushT image, "
        found += [
            Row(f"{label}DDIM", "lerobot", nfe=10, solver="DDIM", repeats=5),
            Row(f"{label}DDPM", "lerobot", nfe=100, solver="DDPM", repeats=2),
        ]
    return found


def rows_of_policy(policy: str) -> list[Row]:
    """Return the rows of any policy: one evaluation of its first block's network, and chunks."""
    from lfm_policy import load_policy

    n_blocks = load_policy(policy).model.n_blocks
    chunks = [Row("chunk", "ours", policy, nfe) for nfe in (1, 2, 4, 8, 16) if nfe >= n_blocks]
    return [Row("one network evaluation", "network", policy), *chunks]


def measure(row: Row, threads: int, lerobot: str) -> dict[str, Any]:
    """Time a row in this process; returns milliseconds, peak memory and parameters."""
    if row.engine.startswith("onnx"):
        call, parameters = _exported(row, threads)
    else:
        import torch

        torch.set_num_threads(threads)
        call, parameters = _lerobot(row, lerobot) if row.kind == "lerobot" else _pytorch(row)
    median, p95 = np.percentile(timed(call, row.repeats), [50, 95])
    return {
        **asdict(row),
        "threads": threads,
        "median_ms": float(median),
        "p95_ms": float(p95),
        "peak_mib": peak_mib(),
        "parameters": parameters,
    }


def _policy(row: Row) -> Any:
    from lfm_policy import load_policy
    from lfm_policy.policy import Policy, PolicyModel

    policy = load_policy(row.policy)
    if row.one_block:
        config = copy.deepcopy(policy.config)
        config.flow.n_blocks, config.flow.step_sizes = 1, []
        config.sampler.nfe, config.block_networks = 1, []
        policy = Policy(config, policy.spec, PolicyModel(config, policy.spec), policy.normalizer)
    if row.kind == "ours":
        policy.set_sampler(solver=row.solver, nfe=row.nfe)
    return policy


def _exported(row: Row, threads: int) -> Timed:
    """Export in another process, so that the memory measured here is the runtime's alone."""
    from lfm_runtime import OnnxPolicy

    with tempfile.TemporaryDirectory() as scratch:
        folder = f"{scratch}/export"
        written = run_alone(__file__, "--row", json.dumps(asdict(row)), "--export", folder)
        policy = OnnxPolicy(folder, threads=threads)
    batch = policy.fake_batch()
    noise = np.random.default_rng(0).standard_normal((1, *policy.chunk_shape), dtype=np.float32)
    return lambda: policy.sample(batch, noise=noise), written["parameters"]


def _export(row: Row, folder: str) -> dict[str, Any]:
    from lfm_policy.exporting import export_policy

    policy = _policy(row)
    export_policy(policy, folder, precision=row.engine.removeprefix("onnx-"))
    return {"parameters": policy.parameter_counts()["total"]}


def _pytorch(row: Row) -> Timed:
    """Our policy, one evaluation of its network, or that in the loop of Diffusion Policy."""
    import torch

    policy = _policy(row)
    batch, noise = policy.fake_batch(), torch.randn(1, *policy.chunk_shape)
    counts = policy.parameter_counts()
    network: Any = policy.model.blocks[0]
    if row.kind == "ours":
        if row.engine == "compile":
            for module in (*policy.model.blocks, policy.model.encoder):
                module.compile()
        return lambda: policy.sample(batch, noise=noise), counts["total"]
    if row.kind == "network":
        t, cond = torch.rand(1), policy.encode(batch)
        return torch.inference_mode()(lambda: network(noise, t, cond)), counts["block 1"]

    import diffusers

    scheduler = getattr(diffusers, row.solver)(num_train_timesteps=100)
    scheduler.set_timesteps(row.nfe)
    low = torch.full((2,), -1.0)

    @torch.inference_mode()
    def call() -> object:
        cond, x = policy.encode(batch), noise
        for step in scheduler.timesteps:
            t = torch.full((1,), float(step) / 100)
            x = scheduler.step(network(x, t, cond), step, x).prev_sample
        return torch.maximum(policy.normalizer.unnormalize("action", x), low)

    return call, counts["block 1"] + counts["encoder"]


def _lerobot(row: Row, folder: str) -> Timed:
    """LeRobot's DiffusionPolicy, its default configuration for PushT images, random weights."""
    sys.path.insert(0, folder)
    import torch

    # What LeRobot's package asks for beside a CPU build of torch: operators that a torchvision
    # without its binary part does not register, and a package whose import loads every policy.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    spec = importlib.util.find_spec("lerobot")
    assert spec is not None and spec.origin is not None
    package = types.ModuleType("lerobot.policies")
    package.__path__ = [str(Path(spec.origin).parent / "policies")]
    sys.modules["lerobot.policies"] = package
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

    config = DiffusionConfig(
        input_features={
            "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 96, 96)),
            "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        device="cpu",
        num_inference_steps=row.nfe,
        noise_scheduler_type=row.solver,
    )
    policy = DiffusionPolicy(config).eval()
    batch = {"observation.image": torch.rand(1, 3, 96, 96), "observation.state": torch.rand(1, 2)}

    @torch.inference_mode()
    def call() -> object:
        policy.reset()
        return policy.select_action(batch)

    return call, sum(p.numel() for p in policy.parameters())


def described(one: dict[str, Any]) -> str:
    """Return what was measured in words."""
    engine = one["engine"] if one["kind"] == "ours" else "PyTorch"
    return (
        f"{one['label']}, {engine}, {one['nfe']} evaluation(s), {one['threads']} thread(s): "
        f"{one['median_ms']:.3f} ms median, {one['p95_ms']:.3f} ms p95, {one['peak_mib']:.0f} MiB, "
        f"{one['parameters']:,} parameters"
    )


def merged(kept: list[dict[str, Any]], measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows measured before, those in their place that were measured again, and new ones."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["label"], row["engine"], row["threads"]

    again = {key(row): row for row in measured}
    rows = [again.pop(key(row), row) for row in kept]
    return rows + list(again.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lerobot", default="", help="folder with LeRobot and what it imports")
    parser.add_argument("--policy", help="only this policy, with several numbers of evaluations")
    parser.add_argument("--only", default="", help="only rows whose label begins with this")
    parser.add_argument("--data", type=Path, help="folder to write latency.json into")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:  # in a process of its own
        row = Row(**json.loads(arguments.row))
        if arguments.export:
            print(json.dumps(_export(row, arguments.export)))
        else:
            print(json.dumps(measure(row, arguments.threads[0], arguments.lerobot)))
        return
    if arguments.policy and arguments.data:
        parser.error("--policy would leave latency.json with its rows alone: no --data")
    rows = (
        rows_of_policy(arguments.policy) if arguments.policy else rows_of_table(arguments.lerobot)
    )
    rows = [row for row in rows if row.label.startswith(arguments.only)]
    begun = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    measured, failed = [], []
    pairs = [(row, threads) for row in rows for threads in arguments.threads]
    for row, threads in tqdm(pairs, unit="row"):
        command = [__file__, "--row", json.dumps(asdict(row)), "--threads", str(threads)]
        try:
            one = run_alone(*command, "--lerobot", arguments.lerobot, threads=threads)
        except subprocess.CalledProcessError:  # the other rows go on
            failed.append(f"{row.label}, {row.engine}, {threads} thread(s)")
            continue
        tqdm.write(described(one))
        measured.append({**one, "run": begun})
    if arguments.data:
        path = arguments.data / "latency.json"
        before = json.loads(path.read_text()) if arguments.only and path.exists() else {}
        rows_now = merged(before.get("rows", []), measured)
        write_json(path, {"computer": computer(), **before, "rows": rows_now})
    if failed:
        raise SystemExit("not measured: " + "; ".join(failed))


if __name__ == "__main__":
    main()
