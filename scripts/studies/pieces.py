"""Pieces of a study: trainings, distillations and evaluations that are done once and kept.

A *model* is a training or the distillation of another model; a *cell* is a model evaluated with
one sampler. Every piece is one `lfm-policy` command with a folder of its own: a finished one is
skipped, an interrupted one goes on where it was, so a study can be stopped and started again at
any time. What cells found is also kept in one small file, the archive, which can be committed:
with it, tables are made and unfinished studies continued without any of the run folders.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Commands

from lfm_policy.errors import InputError, Interrupted
from lfm_policy.evaluation.episodes import no_success_message
from lfm_policy.policy import read_header
from lfm_policy.text.samplers import evaluations
from lfm_runtime.disk.files import write_text
from lfm_runtime.policy.sampler import NUMBERS

TEST_SEEDS = 100_000
SELECTION_SEEDS = 200_000
RECORDING_SEEDS = 400_000
DATA = Path(__file__).parents[2] / "docs" / "results" / "data"
"""What was measured; `scripts/results/write.py` makes the pages of it."""


@dataclass(frozen=True)
class Model:
    """How a model is made.

    Attributes:
        overrides: options as ``section.key=value``.
        config: configuration of a training; a distillation starts from its teacher's.
        encoder_of: name of the model whose encoder a training starts from; empty: of none.
        teacher: name of the model to distil, or of a policy; empty for a training.
        student_config: configuration of a student that sees something else than its teacher.
        nfe: of a student.
        groups: blocks of the teacher that each student block replaces; empty: all as many.
        method: of the distillation.
        recorded: episodes of the teacher whose observations it is distilled on, too.
        recorded_with: sampler of the teacher in these; None: as configured.
    """

    overrides: tuple[str, ...] = ()
    config: str = "pusht/fm"
    encoder_of: str = ""
    teacher: str = ""
    student_config: str = ""
    nfe: int = 0
    groups: tuple[int, ...] = ()
    method: str = "regression"
    recorded: int = 0
    recorded_with: Sampler | None = None


@dataclass(frozen=True)
class Sampler:
    """How a model is evaluated.

    Attributes:
        nfe: network evaluations per chunk, or those of each block, block 1 first.
        solver: of all blocks.
        noise_scale: the configured one when None.
        episodes: as many as the study has when 0.
        times: where the steps of each block end; empty: as configured, or equal steps.
        renoise: share of each block's noise that chunks are given; the configured one when None.
        guidance: weight of the observation; the configured one when None.
    """

    nfe: int | tuple[int, ...]
    solver: str = "euler"
    noise_scale: float | None = None
    episodes: int = 0
    times: tuple[tuple[float, ...], ...] = ()
    renoise: float | None = None
    guidance: float | None = None

    def __str__(self) -> str:
        each = (self.nfe,) if isinstance(self.nfe, int) else self.nfe
        inner = [f"({';'.join(f'{t:g}' for t in one)})" if one else "" for one in self.times]
        inner += [""] * (len(each) - len(inner))
        spent = ".".join(f"{nfe}{times}" for nfe, times in zip(each, inner, strict=True))
        numbers = (f"-{name.removesuffix('_scale')}{v:g}" for name, v in self.numbers().items())
        return f"{self.solver}{spent}{''.join(numbers)}"

    def numbers(self) -> dict[str, float]:
        """Return those that are not as configured."""
        return {name: v for name in NUMBERS if (v := getattr(self, name)) is not None}

    def options(self) -> list[str]:
        """Return the options of ``lfm-policy eval`` and ``control``."""
        each = (self.nfe,) if isinstance(self.nfe, int) else self.nfe
        options = ["--nfe", ",".join(map(str, each)), "--solver", self.solver]
        if any(self.times):
            options += ["--times", str([list(one) for one in self.times])]
        for name, value in self.numbers().items():
            options += [f"--{name.replace('_', '-')}", str(value)]
        return options


Wanted = tuple[str, int, Sequence[Sampler]]


class Study:
    """Models by name, made and evaluated when they are asked for.

    Models are made for a training seed; seed s of a model is its own run.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        arguments: argparse.Namespace,
        archive: str,
        *,
        output: Path,
        episodes: int = 200,
        seed_start: int = TEST_SEEDS,
    ) -> None:
        """Take up the cells that ``archive``, a file of the folder of data, has.

        Args:
            models: by name.
            arguments: of `study_options`.
            archive: name of the file.
            output: run folders, unless the command line names others.
            episodes: of a cell.
            seed_start: environment seed of the first one.
        """
        self.models = models
        self.commands = Commands()
        self._dataset = arguments.dataset
        self._device = arguments.device
        address = arguments.ray_address
        self._runner = ["--runner", "ray", "--ray-address", address] if address else []
        self._output = arguments.output or output
        self._archive = arguments.data / archive
        self._episodes = episodes
        self._seed_start = seed_start
        self._cells: dict[str, Any] = {}
        self._lock = threading.Lock()
        # Of a folder: two chains may need one teacher, and two students one recording.
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        if self._archive.exists():
            self._cells = json.loads(self._archive.read_text())

    def known(self, name: str, sampler: Sampler, seed: int) -> dict[str, Any] | None:
        """Return a cell that is there already."""
        cell: dict[str, Any] | None = self._cells.get(self._key(name, sampler, seed))
        return cell

    def measure(self, name: str, sampler: Sampler, seed: int) -> None:
        """Make a model and evaluate it, as far as that is not done."""
        folder = self.make(name, seed)
        episodes = sampler.episodes or self._episodes
        output = folder / f"eval-{self._seed_start}-{episodes}-{sampler}"
        if not (output / "eval.json").exists():
            options = ["--episodes", str(episodes), "--seed-start", str(self._seed_start)]
            options += [*sampler.options(), "--output", str(output), *self._runner]
            self.commands.run("eval", str(folder), *options, "--quiet", "--device", "cpu")
        cell = _compact(json.loads((output / "eval.json").read_text()), folder)
        with self._lock:
            self._cells[self._key(name, sampler, seed)] = cell
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self._cells.items())]
            self._archive.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._archive, "{\n" + ",\n".join(lines) + "\n}\n")

    def make(self, name: str, seed: int) -> Path:
        """Train or distil a model unless that is done; returns its folder."""
        model = self.models[name]
        folder = self._output / f"seed{seed}" / name
        with self._locks[str(folder)]:
            if (folder / "latest").exists() and read_header(folder).complete:
                return folder
            options = [*model.overrides, "training.num_threads=1", f"seed={seed}"]
            options += ["--output", str(folder), "--resume", "--quiet", "--device", self._device]
            if model.teacher:
                known = model.teacher in self.models
                teacher = self.make(model.teacher, seed) if known else Path(model.teacher)
                groups = ",".join(map(str, model.groups))
                student = ["--groups", groups] if groups else ["--nfe", str(model.nfe)]
                student += ["--method", model.method]
                if model.student_config:
                    student += ["--student-config", model.student_config]
                    student.append(f"dataset.path={self._dataset}")
                if model.recorded:
                    recording = self._recording(teacher, model.recorded, model.recorded_with)
                    student.append(f"distill.recording={recording}")
                self.commands.run("distill", str(teacher), *options, *student)
            else:
                if model.encoder_of:
                    options += ["--init-from", str(self.make(model.encoder_of, seed))]
                self.commands.run("train", model.config, f"dataset.path={self._dataset}", *options)
        return folder

    def _recording(self, policy: Path, episodes: int, sampler: Sampler | None) -> Path:
        """Return what a policy sees on its own, recorded in its folder unless that is done."""
        path = policy / f"seen-{episodes}-{sampler or 'configured'}.zarr"
        with self._locks[str(path)]:
            if not path.exists():
                # A run that is stopped leaves the episodes it has, which are too few.
                partial = path.with_name(f"unfinished-{path.name}")
                shutil.rmtree(partial, ignore_errors=True)
                options = ["--episodes", str(episodes), "--seed-start", str(RECORDING_SEEDS)]
                options += sampler.options() if sampler else []
                options += ["--record", str(partial), "--quiet", "--device", "cpu"]
                self.commands.run("control", str(policy), "--simulated", *options)
                partial.rename(path)
        return path

    def _key(self, name: str, sampler: Sampler, seed: int) -> str:
        episodes = sampler.episodes or self._episodes
        return f"{name} seed{seed} {sampler} n{episodes} from{self._seed_start}"


def of_demos(name: str, demos: int, usual: int) -> str:
    """Return what models, or data, of so many demonstrations are called, beside the usual ones."""
    return name if demos == usual else f"{name}-d{demos}"


def study_options(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the options that every study has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, help="what the models learn from")
    parser.add_argument("--output", type=Path, help="run folders, default in runs/")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the archives")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread side by side")
    parser.add_argument(
        "--ray-address", help="roll out on this cluster of Ray (auto: the one of this machine)"
    )
    parser.add_argument(
        "--device",
        default="cpu",
        choices=["cpu", "cuda"],
        help="of trainings; policies are evaluated on the CPU (default: cpu)",
    )
    return parser


def stop_after(minutes: float | None) -> None:
    """Stop this study after so long, as Ctrl-C would: what runs keeps what it has."""
    if minutes:
        stop = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGINT))
        stop.daemon = True
        stop.start()


def measure(study: Study, wanted: Iterable[Wanted], arguments: argparse.Namespace) -> list[str]:
    """Measure the cells that are not known yet, a chain of them per model and training seed.

    A model whose cells are all known is not made again. Returns what went wrong, a line each.

    Raises:
        SystemExit: somebody wants to stop (Ctrl-C): what ran has kept what it had, and the rest of
            the chains has not begun.
    """
    if arguments.dataset is None:
        raise SystemExit("--dataset is needed to run what is missing")

    def run(model: str, seed: int, samplers: Sequence[Sampler]) -> None:
        for sampler in samplers:
            if study.known(model, sampler, seed) is None:
                study.measure(model, sampler, seed)

    failures, stopped = [], ""
    with study.commands, ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            for future in as_completed([pool.submit(run, *one) for one in wanted]):
                try:
                    future.result()
                except subprocess.CalledProcessError as error:
                    command = " ".join(map(str, error.cmd[3:]))
                    failures.append(f"failed: {command}: exit code {error.returncode}")
                except Interrupted as error:
                    stopped = str(error)
        except KeyboardInterrupt:
            study.commands.kill()
            raise
    if stopped:
        raise SystemExit("\n".join([*failures, stopped]))
    return failures


def _compact(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what tables need of an evaluation and of the training before it."""
    (cell,) = report["cells"]
    if cell["summary"]["successes"] is None:
        raise InputError(
            f"{no_success_message(report['config']['env_id'])}; the tables of a study compare it"
        )
    training = read_header(folder).training
    kept = ("block_steps", "steps", "train_seconds", "push_seconds", "parameters")
    return {
        "solver": cell["solver"],
        "nfe": cell["nfe"],
        "noise_scale": cell["noise_scale"],
        **{name: cell[name] for name, usual in NUMBERS.items() if cell[name] != usual},
        **_spread(cell),
        "summary": cell["summary"],
        "training": {key: training[key] for key in kept},
        "max_reward": [round(e["max_reward"], 4) for e in cell["episodes"]],
        "success": "".join(str(int(e["success"])) for e in cell["episodes"]),
    }


def _spread(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return how evaluations are spread over blocks, where that is said for each block."""
    times = cell.get("block_times", [])  # which evaluations of before do not say
    kept = {"nfe_per_block": cell["nfe_per_block"], "block_times": times}
    return kept if "(" in evaluations(cell["nfe"], *kept.values()) else {}
