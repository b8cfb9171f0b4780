"""Few steps on PushT state: the study of docs/results.md, its tables and plots.

Models are trained, distilled and evaluated on 200 test seeds each, one part of the study after the
other, two jobs of one thread side by side. The study can be stopped and started again at any time.
What is finished is kept in docs/results/pusht_state.json, and the tables are written into
docs/results.md with the cells that are there. Parts beyond the study proper, such as "thousand",
are measured when they are named.

    python scripts/pusht_study.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/pusht_study.py --dataset ... --parts few-steps --seeds 0
    python scripts/pusht_study.py --tables-only
"""

from __future__ import annotations

from itertools import product

from pieces import Sampler, finish, measure, open_study, parse_study, study_options
from pusht_models import MODELS, ORDER, PARTS, SEEDS, STUDY
from study_tables import write_part


def main() -> None:
    parser = study_options(__doc__, output="runs/study")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=list(PARTS),
        default=list(STUDY),
        help=f"tables to measure (default: {', '.join(STUDY)})",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="training seeds")
    arguments = parse_study(parser)
    study = open_study(MODELS, arguments, "pusht_state.json")
    samplers: dict[tuple[str, int], list[Sampler]] = {}
    for part in arguments.parts:
        for row, seed in product(PARTS[part].rows, SEEDS[part]):
            known = samplers.setdefault((row.model, seed), [])
            known += [s for s in row.samplers if s not in known]
    wanted = [
        (model, seed, samplers[model, seed])
        for models in ORDER
        for seed in arguments.seeds
        for model in models
        if (model, seed) in samplers
    ]
    failures = measure(study, wanted, arguments)
    for name, part in PARTS.items():
        write_part(part, study, arguments.results, seeds=SEEDS[name])
    finish(failures)


if __name__ == "__main__":
    main()
