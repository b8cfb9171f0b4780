"""How blocks share an image encoder: the comparison of docs/results.md, its table and plot.

Every row is trained on PushT's camera images with 16,000 gradient steps in all and evaluated on 200
*selection* seeds, because the default is chosen by it. The comparison can be stopped and started
again at any time. What is finished is kept in docs/results/pusht_encoders.json, with the rows
`flow` and `own`: the package trains so no longer.

    python scripts/pusht_encoders.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/pusht_encoders.py --tables-only
"""

from __future__ import annotations

from pieces import (
    SELECTION_SEEDS,
    Model,
    Sampler,
    finish,
    measure,
    open_study,
    parse_study,
    study_options,
)
from study_tables import Part, Row, plot_seconds, write_part

CONFIG = "pusht/image_lfm"
SAMPLERS = (Sampler(64, "midpoint", 0.6),)
FM_SAMPLERS = (Sampler(32, "midpoint", 0.6),)


def _model(*overrides: str) -> Model:
    return Model((*overrides, "training.encoder_batch_size=64"), config=CONFIG)


MODELS = {
    "block1": _model(
        "training.encoder=block1",
        "training.encoder_steps=0",
        "training.total_steps=16000",
        "training.block_shares=[0.625,0.375]",
    ),
    "joint": _model(
        "training.encoder=joint", "training.encoder_steps=16000", "training.total_steps=0"
    ),
    "fm": _model(
        "flow.n_blocks=1",
        "flow.step_sizes=[]",
        "training.encoder=block1",
        "training.encoder_steps=0",
        "training.total_steps=16000",
    ),
}
PART = Part(
    "encoders",
    (
        Row("flow: first with a flow that is dropped, then frozen", "flow", SAMPLERS),
        Row("block1: with block 1, then frozen (a)", "block1", SAMPLERS),
        Row("joint: with all blocks at once (b)", "joint", SAMPLERS),
        Row("own: every block its own (c)", "own", SAMPLERS),
        Row("FM, end to end", "fm", FM_SAMPLERS),
    ),
    plot_seconds,
    tuple(
        (("flow", SAMPLERS[0]), (other, (FM_SAMPLERS if other == "fm" else SAMPLERS)[0]))
        for other in ("block1", "joint", "own", "fm")
    ),
)


def main() -> None:
    parser = study_options(__doc__, output="runs/encoders")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments = parse_study(parser)
    study = open_study(MODELS, arguments, "pusht_encoders.json", seed_start=SELECTION_SEEDS)
    rows = {row.model: row.samplers for row in PART.rows}
    wanted = [(model, seed, rows[model]) for seed in arguments.seeds for model in arguments.models]
    failures = measure(study, wanted, arguments)
    write_part(PART, study, arguments.results, seeds=arguments.seeds)
    finish(failures)


if __name__ == "__main__":
    main()
