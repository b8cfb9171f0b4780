"""How much noise students on PushT state start from, on selection seeds only.

The models are those of pusht_study.py; their teachers are in pusht_sweep.py. Can be stopped and
started again; what is finished is kept in docs/results/pusht_noise.json. For each model the noise
with the largest sum of score and success over all training seeds is printed: `CHOSEN` in
pusht_models.py.

    python scripts/pusht_noise.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/pusht_noise.py --tables-only
"""

from __future__ import annotations

from collections.abc import Sequence

from pieces import (
    SELECTION_SEEDS,
    Sampler,
    Study,
    finish,
    measure,
    open_study,
    parse_study,
    study_options,
)
from pusht_models import MODELS
from study_tables import Part, Row, cells_of, plot_against_noise, pooled, write_part

SCALES = (0.6, 0.5, 0.4)
STUDENTS = ("lfm-2", "lfm-1", "fm-2", "fm-1")


def _student(model: str, scale: float) -> Sampler:
    return Sampler(MODELS[model].nfe, noise_scale=scale)


NOISE = Part(
    "noise",
    tuple(
        Row(
            model.upper().replace("-", " to "),
            model,
            tuple(_student(model, scale) for scale in SCALES),
        )
        for model in STUDENTS
    ),
    plot_against_noise,
    tuple(
        ((model, _student(model, scale)), (model, _student(model, SCALES[0])))
        for model in STUDENTS
        for scale in SCALES[1:]
    ),
)


def best_scales(study: Study, seeds: Sequence[int]) -> dict[str, float]:
    """Return the noise with the largest score + success of every model measured completely."""
    best = {}
    for row in NOISE.rows:
        measured = (cells_of(study, row.model, sampler, seeds) for sampler in row.samplers)
        cells = dict(zip(SCALES, measured, strict=True))
        if any(len(of_scale) < len(seeds) for of_scale in cells.values()):
            continue
        totals = {}
        for scale, of_scale in cells.items():
            score, successes, n = pooled(of_scale)
            totals[scale] = score + successes / n
        best[row.model] = max(totals, key=lambda scale: totals[scale])
    return best


def main() -> None:
    parser = study_options(__doc__, output="runs/study")
    parser.add_argument("--models", nargs="+", choices=STUDENTS, default=STUDENTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="training seeds")
    arguments = parse_study(parser)
    study = open_study(MODELS, arguments, "pusht_noise.json", seed_start=SELECTION_SEEDS)
    wanted = [
        (row.model, seed, row.samplers)
        for row in NOISE.rows
        for seed in arguments.seeds
        if row.model in arguments.models
    ]
    failures = measure(study, wanted, arguments)
    write_part(NOISE, study, arguments.results, seeds=(0, 1, 2))
    for model, scale in best_scales(study, (0, 1, 2)).items():
        print(f"{model}: {scale:g}")
    finish(failures)


if __name__ == "__main__":
    main()
