"""Few steps on PushT state: the study of docs/results.md, its tables and plots.

Models are trained, distilled and evaluated on 200 test seeds each, one part of the study after the
other, two jobs of one thread side by side. The study can be stopped and started again at any time.
What is finished is kept in docs/results/pusht_state.json, and the tables are written into
docs/results.md with the cells that are there.

    python scripts/pusht_study.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/pusht_study.py --dataset ... --parts few-steps --seeds 0
    python scripts/pusht_study.py --tables-only
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from pieces import Sampler, Study, run_chains
from pusht_models import MODELS, ORDER, PARTS
from study_tables import write_part


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, help="Diffusion Policy's PushT zarr")
    parser.add_argument("--output", type=Path, default=Path("runs/study"), help="run folders")
    parser.add_argument("--results", type=Path, default=Path("docs"), help="where results.md is")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="training seeds")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread side by side")
    parser.add_argument("--minutes", type=float, help="start no new model after so many minutes")
    parser.add_argument("--tables-only", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if not arguments.tables_only and arguments.dataset is None:
        parser.error("--dataset is needed to run what is missing")
    archive = arguments.results / "results" / "pusht_state.json"
    study = Study(MODELS, dataset=arguments.dataset, output=arguments.output, archive=archive)
    deadline = time.monotonic() + 60 * arguments.minutes if arguments.minutes else float("inf")
    failures = []
    if not arguments.tables_only:
        wanted: dict[str, list[Sampler]] = {}
        for part in arguments.parts:
            for row in PARTS[part].rows:
                samplers = wanted.setdefault(row.model, [])
                samplers += [s for s in row.samplers if s not in samplers]
        chains = [
            partial(_cells, study, model, wanted[model], seed, deadline)
            for models in ORDER
            for seed in arguments.seeds
            for model in models
            if model in wanted
        ]
        failures = run_chains(chains, arguments.jobs)
    for name in PARTS:
        write_part(PARTS[name], study, arguments.results, seeds=(0, 1, 2))
    for line in failures:
        print(f"failed: {line}")
    if failures:
        raise SystemExit(1)


def _cells(study: Study, model: str, samplers: list[Sampler], seed: int, deadline: float) -> None:
    for sampler in samplers:
        if study.known(model, sampler, seed) is None and time.monotonic() < deadline:
            study.cell(model, sampler, seed)


if __name__ == "__main__":
    main()
