"""What variants of the compact image encoder cost: parameters, operations, frames, gradient steps.

The variants of scripts/studies/encoders.yaml, whose learning scripts/studies/encoder_probe.py
compares. A frame is one of batch 1 in ONNX Runtime, with conversion from bytes and cropping; a
history is two of them, as a policy sees them; a step is forward, backward and AdamW for 64 windows
of two frames, of the encoder alone. Times are those that this process computed on one thread, and
those of the fastest of several turns, so that a busy machine changes them little.

    python scripts/benchmarks/encoders.py
    python scripts/benchmarks/encoders.py --size 84 84 --crop 76 76 --data docs/results/data
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from lfm_policy.encoders.image_options import CompactConfig
from lfm_policy.text.tables import TextTable
from lfm_runtime.benchmark import computer
from lfm_runtime.disk.files import write_json

VARIANTS = Path(__file__).parents[1] / "studies" / "encoders.yaml"
WINDOWS, HISTORY = 64, 2


def exported(encoder: torch.nn.Module, images: torch.Tensor) -> onnxruntime.InferenceSession:
    """Return an encoder in ONNX Runtime on one thread, whose features have been compared."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        example = torch.cat([images, images[:1]])  # 1 and 2 rows are no free number to a tracer
        program = torch.onnx.export(
            encoder, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False
        )
        assert program is not None
        expected = encoder(images).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    assert np.abs(found - expected).max() < 1e-5
    return session


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Return the seconds of this process's computing that one call takes."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def calls_of(
    options: dict[str, Any], size: tuple[int, int], crop: list[int | float]
) -> dict[str, Any]:
    """Return what is timed of a variant, and what is known without."""
    torch.manual_seed(0)
    options = {key: value for key, value in options.items() if key != "history"}
    encoder = CompactConfig(crop=crop, **options).create("image", (*size, 3)).eval()
    images = torch.randint(0, 256, (HISTORY, 1, *size, 3), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(images[:1])
    session = exported(encoder, images)
    name = session.get_inputs()[0].name
    batch = torch.randint(0, 256, (WINDOWS, HISTORY, *size, 3), dtype=torch.uint8)
    learner = CompactConfig(crop=crop, **options).create("image", (*size, 3)).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-4, fused=True)

    def frames(n: int) -> Callable[[], object]:
        fed = {name: images[:n].numpy()}
        return lambda: session.run(None, fed)

    def step() -> None:
        learner(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        "features": encoder.feature_dim,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "mflop": counter.get_total_flops() / 1e6,
        "calls": {"frame": (frames(1), 20), "history": (frames(HISTORY), 20), "step": (step, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = yaml.safe_load(VARIANTS.read_text())
    parser.add_argument("--variants", nargs="*", default=list(known), choices=list(known))
    parser.add_argument("--size", type=int, nargs=2, default=[96, 96], help="height and width")
    parser.add_argument("--crop", type=int, nargs="*", default=[84, 84])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--data", type=Path, help="folder to write encoders.json into")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    variants = {
        name: calls_of(known[name], tuple(arguments.size), arguments.crop)
        for name in tqdm(arguments.variants, desc="exports")
    }
    turns: dict[tuple[str, str], list[float]] = {}
    for turn in tqdm(range(arguments.turns + 1), desc="turns"):
        for name, variant in variants.items():
            for what, (call, repeats) in variant["calls"].items():
                seconds = seconds_of(call, repeats)
                if turn:  # the first one warms up
                    turns.setdefault((name, what), []).append(seconds)
    table = TextTable("variant", "features", "parameters", "MFLOP", "frame", "history", "step")
    rows = []
    for name, variant in variants.items():
        of = {what: min(turns[name, what]) for what in variant["calls"]}
        facts = {key: variant[key] for key in ("features", "parameters", "mflop")}
        rows.append({"variant": name, **facts, **{f"{key}_s": value for key, value in of.items()}})
        table.add_row(
            name,
            f"{facts['features']:,}",
            f"{facts['parameters']:,}",
            f"{facts['mflop']:.1f}",
            f"{1e3 * of['frame']:.3f} ms",
            f"{1e3 * of['history']:.3f} ms",
            f"{of['step']:.3f} s",
        )
    table.print()
    if arguments.data:
        settings = {"size": arguments.size, "crop": arguments.crop, "turns": arguments.turns}
        found = {"computer": computer(), "settings": settings, "rows": rows}
        write_json(arguments.data / "encoders.json", found)


if __name__ == "__main__":
    main()
