"""What the models of the PushT study cost alone on a machine: a gradient step, and a chunk.

Of every model of the parts that are named: milliseconds of a gradient step, from a short training
on one thread, and milliseconds of a chunk in ONNX Runtime on one thread at batch 1, for each of its
samplers that can be exported: of the short training, since weights make no difference, and of
students of the run of training seed 0 if it is there. Studies run two
trainings side by side, whose seconds differ by half; these do not. Run it on a machine that does
nothing else. What is in the file already is not measured again; `scripts/results/write.py` makes
the table of it.

    python scripts/studies/method_costs.py --dataset pusht_cchi_v7_replay.zarr --parts methods
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from commands import Commands
from listed import listed_studies
from pieces import DATA, Model, Sampler

from lfm_policy.errors import Interrupted
from lfm_policy.flow import SOLVERS
from lfm_policy.policy import read_header
from lfm_runtime import OnnxPolicy
from lfm_runtime.benchmark import computer, timed
from lfm_runtime.disk.files import write_json

FILE = "pusht_costs.json"
REPEATS = 300


def short_training(
    commands: Commands, model: Model, dataset: Path, steps: int, folder: Path
) -> float:
    """Train so many steps; returns milliseconds of one."""
    options = [*model.overrides, f"training.total_steps={steps}", "training.num_threads=1"]
    commands.run(
        "train",
        *(model.config, f"dataset.path={dataset}", *options),
        *("--output", str(folder), "--device", "cpu", "--quiet"),
    )
    training = read_header(folder).training
    return 1e3 * float(training["train_seconds"]) / int(training["steps"])


def chunk_ms(commands: Commands, folder: Path, sampler: Sampler) -> dict[str, float]:
    """Return milliseconds of a chunk of an exported policy on one thread."""
    with tempfile.TemporaryDirectory() as scratch:
        output = f"{scratch}/exported"
        commands.run("export", str(folder), output, *sampler.options())
        policy = OnnxPolicy(output, threads=1)
        batch, shape = policy.fake_batch(), (1, *policy.chunk_shape)
        noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        times = timed(lambda: policy.sample(batch, noise=noise), REPEATS)
        median, most = np.percentile(times, [50, 95])
        return {"median_ms": float(median), "p95_ms": float(most)}


def exported(name: str, samplers: Sequence[Sampler]) -> dict[str, Sampler]:
    """Return the samplers of a model that can be exported, by their keys in the file.

    One that draws noise in every step cannot.
    """
    return {f"{name} {one}": one for one in samplers if not SOLVERS.get(one.solver).random}


def main() -> None:
    study = listed_studies()["state"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="what the models learn from")
    parser.add_argument("--parts", nargs="+", choices=list(study.parts), default=["methods"])
    parser.add_argument("--models", nargs="+", help="only these; default all")
    parser.add_argument("--output", type=Path, default=study.output, help="run folders")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the file")
    parser.add_argument("--steps", type=int, default=500, help="gradient steps that are timed")
    arguments = parser.parse_args()
    path = arguments.data / FILE
    found: dict[str, Any] = {"computer": computer(), "steps": {}, "chunks": {}}
    if path.exists():
        found = json.loads(path.read_text())

    def keep(kind: str, key: str, value: Any) -> None:
        found[kind][key] = value
        print(f"{key}: {value}", flush=True)
        write_json(path, found)

    failed = []
    with Commands() as commands, tempfile.TemporaryDirectory() as scratch:
        for name, seed, samplers in study.wanted(arguments.parts):
            if seed != 0 or (arguments.models is not None and name not in arguments.models):
                continue
            model, folder = study.models[name], arguments.output / f"seed{seed}" / name
            try:
                wanted = exported(name, samplers)
                wanted = {key: one for key, one in wanted.items() if key not in found["chunks"]}
                if not model.teacher and (wanted or name not in found["steps"]):
                    folder = Path(scratch) / name
                    took = short_training(
                        commands, model, arguments.dataset, arguments.steps, folder
                    )
                    if name not in found["steps"]:
                        keep("steps", name, took)
                for key, sampler in wanted.items():
                    if model.teacher and not (folder / "latest").exists():
                        print(f"{key}: not distilled, {folder} is not there")
                    else:
                        keep("chunks", key, chunk_ms(commands, folder, sampler))
            except subprocess.CalledProcessError as error:
                failed.append(f"failed: {' '.join(map(str, error.cmd[3:]))}")
            except Interrupted as error:
                failed.append(str(error))
                break
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main()
