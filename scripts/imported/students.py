"""A LeRobot policy and its students on PushT: success, score, distance, milliseconds.

The teacher is what `train_lerobot.py` trained, imported. It is sampled by DDIM with 100, 10, 4, 2
and 1 steps, and along its flow; students of one and two evaluations are distilled from its flow,
about the demonstrations and about a recording of its own work. Flow and students also start from
less noise, which was better on selection seeds. Every step is skipped that is done, so the
same command goes on after it was stopped.

    python scripts/imported/students.py runs/lerobot pusht_cchi_v7_replay.zarr \\
        --lerobot lerobot-venv/bin/python --output docs/results/data/imported.json

The milliseconds are measured in the environment of LeRobot, which needs ONNX Runtime and what is
in `runtime/` besides (`pip install ./runtime`). Students are small MLPs: --student says which, as
options of `lfm-policy distill`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from train_lerobot import NAMES

from lfm_policy.cli.main import main as lfm_policy
from lfm_policy.policy import read_header
from lfm_policy.text.students import DISTANCE
from lfm_runtime.benchmark import computer
from lfm_runtime.disk.files import write_json, write_text

ENV = "lfm/PushT-v0"
DDIM = (100, 10, 4, 2, 1)
STUDENTS = (2, 1)
FLOW = ["--solver=midpoint", "--nfe=32"]
"""What students are distilled from: the flow that the diffusion stands for."""
NOISE = (1.0, 0.6)
"""That flow and students start from; selection seeds (--seed-start) were asked for the second."""
RECORDING_SEEDS = 400_000
RECORDING_STEPS = 10
"""Of DDIM, while the teacher is recorded."""

STUDENT = [
    "network={name: mlp}",
    "distill.samples=4",
    "distill.teacher_steps=16",
]
COMPARED = ("success", "max_reward")
"""What is kept of each episode: the pages compare policies on the same ones."""
RUNTIME = Path(__file__).resolve().parents[2] / "runtime"


def done(arguments: list[str]) -> None:
    """Run a command of lfm-policy in this process."""
    print("lfm-policy", *arguments, flush=True)
    if lfm_policy(arguments):
        raise SystemExit(f"lfm-policy {' '.join(arguments)} failed")


class Study:
    """What is measured, in a folder beside the training of LeRobot and in one JSON file."""

    def __init__(self, settings: argparse.Namespace) -> None:
        self.settings = settings
        self.folder: Path = settings.folder
        self.foreign = self.folder / "train" / "checkpoints" / settings.checkpoint
        self.foreign /= "pretrained_model"
        self.teacher = self.folder / f"teacher-{settings.checkpoint}"
        asked = {"episodes": settings.episodes, "seed_start": settings.seed_start}
        self.results: dict[str, Any] = {**asked, "cells": []}
        if settings.output.exists():
            self.results = json.loads(settings.output.read_text())
            if {name: self.results[name] for name in asked} != asked:
                raise SystemExit(f"{settings.output} was measured with other episodes or seeds")

    def save(self) -> None:
        """Write the results; a cell is a line, for it has a value of every episode."""
        rest = {name: value for name, value in self.results.items() if name != "cells"}
        cells = ",\n".join(json.dumps(cell, allow_nan=False) for cell in self.results["cells"])
        text = json.dumps(rest | {"cells": []}, indent=2, allow_nan=False)
        write_text(self.settings.output, text.removesuffix("[]\n}") + f"[\n{cells}\n]}}\n")

    def prepare(self) -> None:
        """Import the teacher, and record what it sees when it acts."""
        if not self.teacher.exists():
            names = [f"--rename=observation.{there}={here}" for here, there in NAMES.items()]
            done(["import", str(self.foreign), str(self.teacher), *names, "--env", ENV])
        recording = self.folder / f"seen-{self.settings.checkpoint}.zarr"
        if self.settings.recorded and not recording.exists():
            arguments = ["control", str(self.teacher), "--simulated", "--solver=ddim"]
            arguments += [f"--nfe={RECORDING_STEPS}", f"--episodes={self.settings.recorded}"]
            unfinished = recording.with_name(f"unfinished-{recording.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            arguments += [f"--seed-start={RECORDING_SEEDS}", f"--record={unfinished}"]
            done([*arguments, "--json"])
            unfinished.rename(recording)
        header = read_header(self.teacher)
        self.results["teacher"] = {
            "framework": header.imported,
            "parameters": header.training["parameters"]["total"],
            "training": self._training(),
        }
        self.save()

    def _training(self) -> dict[str, Any]:
        """Return how LeRobot trained the policy, as its file says."""
        found = json.loads((self.foreign / "train_config.json").read_text())
        state = self.foreign.parent / "training_state" / "training_step.json"
        return {
            "steps": json.loads(state.read_text())["step"],
            "batch_size": found["batch_size"],
            "learning_rate": found["policy"]["optimizer_lr"],
            "down_dims": found["policy"]["down_dims"],
        }

    def student(self, nfe: int) -> Path:
        return self.folder / f"student-{self.settings.checkpoint}-{nfe}"

    def distil(self, nfe: int) -> None:
        """Train a student, or go on with it."""
        recording = self.folder / f"seen-{self.settings.checkpoint}.zarr"
        options = [f"dataset.path={self.settings.demonstrations}", "dataset.derive=pusht"]
        options.append("dataset.obs_keys=[agent_pos,keypoints]")
        if self.settings.recorded:
            options.append(f"distill.recording={recording}")
        options += [*STUDENT, *self.settings.student]
        output = f"--output={self.student(nfe)}"
        done(["distill", str(self.teacher), f"--nfe={nfe}", *options, output, "--resume"])
        header = read_header(self.student(nfe))
        self.results.setdefault("students", {})[str(nfe)] = {
            "distance": header.training.get(DISTANCE),
            "parameters": header.training["parameters"]["total"],
            "steps": header.training["steps"],
            "seconds": header.training["train_seconds"],
            "teacher_seconds": header.training["push_seconds"],
            "options": [*STUDENT, *self.settings.student],
            "recorded": self.settings.recorded,
        }
        self.save()

    def roll_out(self, name: str, policy: Path, sampler: list[str]) -> None:
        """Evaluate a policy on the seeds, unless the file has that."""
        if any(cell["name"] == name for cell in self.results["cells"]):
            return
        sampler = [*sampler, f"--seed-start={self.settings.seed_start}"]
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["eval", str(policy), "--env", ENV, *sampler, f"--output={folder}"]
            done([*arguments, f"--episodes={self.settings.episodes}", "--quiet"])
            (cell,) = json.loads((Path(folder) / "eval.json").read_text())["cells"]
        cell["episodes"] = [{name: one[name] for name in COMPARED} for one in cell["episodes"]]
        self.results["cells"].append({"name": name, **cell})
        self.save()

    def time(self) -> None:
        """Time LeRobot and our runtime in one process; last, when nothing else is to be done."""
        exported: dict[str, str] = {}
        for nfe in self.settings.exported:
            exported[f"ddim {nfe}"] = self._exported(f"ddim-{nfe}", self.teacher, nfe, "ddim")
        for nfe in STUDENTS:
            exported[f"student {nfe}"] = self._exported(f"student-{nfe}", self.student(nfe), nfe)
        request = {
            "lerobot": str(self.foreign.resolve()),
            "samplers": [["DDPM", 100], *(["DDIM", nfe] for nfe in DDIM)],
            "exports": exported,
            "compared": [f"ddim {nfe}" for nfe in self.settings.exported],
            "names": {f"observation.{there}": here for here, there in NAMES.items()},
            "rounds": self.settings.rounds,
        }
        asked, found = self.folder / "latency-request.json", self.folder / "latency.json"
        write_json(asked, request)
        script = Path(__file__).with_name("lerobot_latency.py")
        path = os.pathsep.join([str(RUNTIME), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        environment = os.environ | {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        subprocess.run([self.settings.lerobot, script, asked, found], env=environment, check=True)
        self.results["latency"] = json.loads(found.read_text()) | {"computer": computer()}
        self.save()

    def _exported(self, name: str, policy: Path, nfe: int, solver: str = "") -> str:
        folder = self.folder / f"exported-{self.settings.checkpoint}" / name
        if not folder.exists():
            sampler = [f"--solver={solver}", f"--nfe={nfe}"] if solver else []
            done(["export", str(policy), str(folder), *sampler])
        return str(folder.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what train_lerobot.py wrote")
    parser.add_argument("demonstrations", type=Path, help="pusht_cchi_v7_replay.zarr")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    parser.add_argument(
        "--lerobot", type=Path, help="python of an environment with LeRobot; none: nothing is timed"
    )
    parser.add_argument("--checkpoint", default="last", help="of LeRobot's training")
    parser.add_argument("--episodes", type=int, default=200, help="of each evaluation")
    parser.add_argument("--seed-start", type=int, default=100_000, help="default: the test seeds")
    parser.add_argument("--recorded", type=int, default=200, help="episodes of the recording")
    parser.add_argument("--rounds", type=int, default=200, help="chunks timed of each policy")
    parser.add_argument(
        "--exported",
        type=int,
        nargs="+",
        default=[steps for steps in DDIM if steps <= RECORDING_STEPS],
        help="steps of DDIM that are timed in our runtime: every step is in the graph, and a "
        "graph of 100 takes very long to write (default: 10 4 2 1)",
    )
    parser.add_argument("--student", nargs="*", default=[], metavar="key=value")
    study = Study(parser.parse_args())
    study.prepare()
    for nfe in DDIM:
        study.roll_out(f"ddim {nfe}", study.teacher, ["--solver=ddim", f"--nfe={nfe}"])
    for noise in NOISE:
        study.roll_out(f"flow 32 {noise:g}", study.teacher, [*FLOW, f"--noise-scale={noise}"])
    for nfe in STUDENTS:
        study.distil(nfe)
        for noise in NOISE:
            name = f"student {nfe} {noise:g}"
            study.roll_out(name, study.student(nfe), [f"--noise-scale={noise}"])
    if study.settings.lerobot and "latency" not in study.results:
        study.time()


if __name__ == "__main__":
    main()
