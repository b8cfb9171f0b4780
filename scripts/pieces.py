"""Pieces of a study: trainings, distillations and evaluations that are done once and kept.

Every piece is one `lfm-policy` command with a folder of its own. A finished piece is skipped, an
interrupted one goes on where it was, so a study can be stopped and started again at any time.
Chains of pieces run side by side in as many processes as asked for, each with one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfm_policy.policy import read_header

TEST_SEEDS = 100_000
SELECTION_SEEDS = 200_000


@dataclass(frozen=True)
class Study:
    """Where a study reads and writes, and on which episodes it evaluates."""

    dataset: Path
    output: Path
    episodes: int = 200
    seed_start: int = TEST_SEEDS

    def train(self, name: str, config: str, *overrides: str) -> Path:
        """Train ``name`` unless it is done; returns its folder."""
        folder = self.output / name
        if not _complete(folder):
            options = [f"dataset.path={self.dataset}", "training.num_threads=1", *overrides]
            _run("train", config, *options, *self._run_options(folder))
        return folder

    def distill(
        self, teacher: Path, name: str, nfe: int, *overrides: str, method: str = "regression"
    ) -> Path:
        """Distil a student ``name`` of ``teacher`` unless it is done; returns its folder."""
        folder = self.output / name
        if not _complete(folder):
            options = ["--nfe", str(nfe), "--method", method, *self._run_options(folder)]
            _run("distill", str(teacher), *overrides, *options)
        return folder

    def evaluate(
        self,
        folder: Path,
        nfes: Sequence[int],
        *,
        solver: str = "euler",
        noise_scale: float | None = None,
    ) -> list[dict[str, Any]]:
        """Evaluate unless it is done; returns one cell of `eval.json` per number of evaluations."""
        cells = []
        for nfe in nfes:
            scale = "" if noise_scale is None else f"-noise{noise_scale:g}"
            name = f"eval-{self.seed_start}-{self.episodes}-{solver}{nfe}{scale}"
            output = folder / name
            if not (output / "eval.json").exists():
                options = ["--episodes", str(self.episodes), "--seed-start", str(self.seed_start)]
                options += ["--nfe", str(nfe), "--solver", solver, "--output", str(output)]
                options += [] if noise_scale is None else ["--noise-scale", str(noise_scale)]
                _run("eval", str(folder), *options, "--quiet", "--device", "cpu")
            cells.append(json.loads((output / "eval.json").read_text())["cells"][0])
        return cells

    def _run_options(self, folder: Path) -> list[str]:
        return ["--output", str(folder), "--resume", "--device", "cpu", "--quiet"]


def training_of(folder: Path) -> dict[str, Any]:
    """Return the summary of a training or distillation: steps, seconds, parameters."""
    return read_header(folder).training


def run_chains(chains: Sequence[Callable[[], object]], jobs: int) -> list[str]:
    """Run chains of pieces, ``jobs`` at a time; returns what went wrong, a line each."""
    failures = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(chain) for chain in chains]
        for future in as_completed(futures):
            try:
                future.result()
            except subprocess.CalledProcessError as error:
                failures.append(
                    f"{' '.join(map(str, error.cmd[3:]))}: exit code {error.returncode}"
                )
    return failures


def _complete(folder: Path) -> bool:
    return (folder / "latest").exists() and read_header(folder).complete


def _run(*arguments: str) -> None:
    print("lfm-policy " + " ".join(arguments), flush=True)
    command = [sys.executable, "-m", "lfm_policy", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
