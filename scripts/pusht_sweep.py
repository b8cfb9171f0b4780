"""What makes a good teacher on PushT state: one cell per setting, on selection seeds only.

Each line of SETTINGS is a training; each is evaluated with few and many steps and with several
scales of the initial noise. Can be stopped and started again; finished cells are kept.

    python scripts/pusht_sweep.py --dataset pusht_cchi_v7_replay.zarr --only n2 n3
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pieces import SELECTION_SEEDS, Study, run_chains, training_of

SETTINGS: dict[str, tuple[str, ...]] = {
    "fm": ("flow.n_blocks=1",),
    "n2-g03": ("flow.n_blocks=2", "flow.step_sizes=[0.03]"),
    "n2-g10": ("flow.n_blocks=2", "flow.step_sizes=[0.1]"),
    "n2-g01": ("flow.n_blocks=2", "flow.step_sizes=[0.01]"),
    "n2-g003": ("flow.n_blocks=2", "flow.step_sizes=[0.003]"),
    "n2-g03-data": ("flow.n_blocks=2", "flow.step_sizes=[0.03]", "flow.prediction=data"),
    "n2-g03-shares": (
        "flow.n_blocks=2",
        "flow.step_sizes=[0.03]",
        "training.block_shares=[0.33,0.67]",
    ),
    "n3-g01-10": ("flow.n_blocks=3", "flow.step_sizes=[0.01,0.1]"),
    "n4-g01": ("flow.n_blocks=4", "flow.step_sizes=[0.01,0.03,0.1]"),
    "n2-g03-trig2": (
        "flow.n_blocks=2",
        "flow.step_sizes=[0.03]",
        "flow.block_interpolants=[linear,trigonometric]",
    ),
    "n2-g03-wide": (
        "flow.n_blocks=2",
        "flow.step_sizes=[0.03]",
        "network.width=256",
        "network.n_layers=3",
    ),
    "n2-g03-noise04": (
        "flow.n_blocks=2",
        "flow.step_sizes=[0.03]",
        "training.obs_noise=0.04",
    ),
    "n2-g03-steps48": (
        "flow.n_blocks=2",
        "flow.step_sizes=[0.03]",
        "training.total_steps=48000",
    ),
    "regression": (
        "flow.prediction=regression",
        "flow.time.name=points",
        "flow.time.points=[1.0]",
        "sampler.noise_scale=0",
        "sampler.nfe=1",
    ),
    "mip": (
        "flow.prediction=regression",
        "flow.time.name=points",
        "flow.time.points=[1.0,0.1]",
        "sampler.noise_scale=0",
        "sampler.times=[0.1]",
        "sampler.nfe=2",
    ),
}
NOISE_SCALES = (1.0, 0.7, 0.5)


def cell(study: Study, name: str) -> list[dict[str, Any]]:
    """Train and evaluate one setting."""
    folder = study.train(name, "pusht/fm", *SETTINGS[name])
    if name in ("regression", "mip"):
        return study.evaluate(folder, [1 if name == "regression" else 2])
    n_blocks = len(training_of(folder)["block_steps"])
    cells = []
    for scale in NOISE_SCALES:
        cells += study.evaluate(folder, [max(4, n_blocks), 16], noise_scale=scale)
        many = 32 * n_blocks
        cells += study.evaluate(folder, [many], solver="midpoint", noise_scale=scale)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/sweep"))
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), help="settings to run")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    study = Study(arguments.dataset, arguments.output, arguments.episodes, SELECTION_SEEDS)
    chains = [partial(cell, study, name) for name in arguments.only]
    failures = run_chains(chains, arguments.jobs)
    print(
        "| setting | parameters | sampler | noise | score | success |\n| --- " * 1 + "| --- |" * 5
    )
    for name in arguments.only:
        if not (study.output / name / "latest").exists():
            continue
        parameters = training_of(study.output / name)["parameters"]["total"]
        for c in cell(study, name):
            s = c["summary"]
            print(
                f"| {name} | {parameters:,} | {c['solver']} {c['nfe']:g} | {c['noise_scale']:g} | "
                f"{s['score']:.3f} | {s['successes']}/{s['n']} |"
            )
    for line in failures:
        print(f"failed: {line}")
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
