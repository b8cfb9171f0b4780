"""What latency.py times; every row in a process of its own."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

UNTIMED = 0.1


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


class ProcessError(Exception):
    """A process failed; what it wrote to stderr."""


def run_alone(*arguments: str, threads: int = 1) -> dict[str, Any]:
    """Run Python in a process of its own; returns the JSON of the last line that it prints.

    Raises:
        ProcessError: it failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ProcessError(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(row: Row, threads: int, lerobot: str = "") -> dict[str, Any]:
    """Time a row in this process; returns milliseconds, peak memory and parameters."""
    call, parameters = _CALLS[row.kind](row, threads, lerobot)
    for _ in range(max(2, int(UNTIMED * row.repeats))):
        call()
    seconds = []
    for _ in range(row.repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    median, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {
        **asdict(row),
        "threads": threads,
        "median_ms": float(median),
        "p95_ms": float(p95),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "parameters": parameters,
    }


def _ours(row: Row, threads: int, _: str) -> tuple[Callable[[], object], int]:
    if row.engine.startswith("onnx"):
        return _exported(row, threads)
    import torch

    torch.set_num_threads(threads)
    policy = _policy(row)
    parameters = policy.parameter_counts()["total"]
    if row.engine == "compile":
        for block in policy.model.blocks:
            block.compile()
        policy.model.encoder.compile()
    batch, noise = _inputs(policy)
    return lambda: policy.sample(batch, noise=noise), parameters


def _inputs(policy: Any) -> tuple[dict[str, Any], Any]:
    """Return a batch of one made-up observation window, and noise."""
    import torch

    frames = {key: [value] * policy.n_obs_steps for key, value in policy.fake_obs().items()}
    batch = {key: torch.from_numpy(np.stack(value)[None]) for key, value in frames.items()}
    return batch, torch.randn(1, *policy.chunk_shape)


def _network(row: Row, threads: int, _: str) -> tuple[Callable[[], object], int]:
    import torch

    torch.set_num_threads(threads)
    policy = _policy(row)
    network: Any = policy.model.blocks[0]
    batch, x = _inputs(policy)
    t, cond = torch.rand(1), policy.encode(batch)

    def call() -> object:
        with torch.inference_mode():
            return network(x, t, cond)

    return call, sum(p.numel() for p in network.parameters())


def _exported(row: Row, threads: int) -> tuple[Callable[[], object], int]:
    """Export in another process, so that the memory measured here is the runtime's alone."""
    from lfm_runtime import OnnxPolicy

    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "export"
        written = run_alone(__file__, json.dumps(asdict(row)), str(exported))
        policy = OnnxPolicy(exported, threads=threads)
    obs = policy.fake_obs()
    batch = {key: np.stack([value] * policy.n_obs_steps)[None] for key, value in obs.items()}
    noise = np.random.default_rng(0).standard_normal((1, *policy.chunk_shape), dtype=np.float32)
    return lambda: policy.sample(batch, noise=noise), written["parameters"]


def _export(row: Row, folder: str) -> None:
    from lfm_policy.export import export_policy

    policy = _policy(row)
    export_policy(policy, folder, precision=row.engine.removeprefix("onnx-"))
    print(json.dumps({"parameters": policy.parameter_counts()["total"]}))


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


def _diffusers(row: Row, threads: int, _: str) -> tuple[Callable[[], object], int]:
    """Our network in the sampling loop of Diffusion Policy."""
    import diffusers
    import torch

    torch.set_num_threads(threads)
    policy = _policy(row)
    network = policy.model.blocks[0]
    scheduler = getattr(diffusers, row.solver)(num_train_timesteps=100)
    scheduler.set_timesteps(row.nfe)
    batch, noise = _inputs(policy)
    low = torch.full((2,), -1.0)

    def call() -> object:
        with torch.inference_mode():
            cond = policy.encode(batch)
            x = noise
            for step in scheduler.timesteps:
                t = torch.full((1,), float(step) / 100)
                x = scheduler.step(network(x, t, cond), step, x).prev_sample
            return torch.maximum(policy.normalizer.unnormalize("action", x), low)

    parameters = sum(p.numel() for p in network.parameters())
    return call, parameters + policy.parameter_counts()["encoder"]


def _lerobot(row: Row, threads: int, folder: str) -> tuple[Callable[[], object], int]:
    """LeRobot's DiffusionPolicy, its default configuration for PushT images, random weights."""
    sys.path.insert(0, folder)
    import torch

    torch.set_num_threads(threads)
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

    def call() -> object:
        policy.reset()
        with torch.inference_mode():
            return policy.select_action(batch)

    return call, sum(p.numel() for p in policy.parameters())


_CALLS = {"ours": _ours, "network": _network, "diffusers": _diffusers, "lerobot": _lerobot}

if __name__ == "__main__":
    _export(Row(**json.loads(sys.argv[1])), sys.argv[2])
