"""The paper's robot table for one task: FM and LFM, teachers and students, two budgets of training.

Policies learn from a robomimic HDF5 file, collected (`lfm-policy collect`) or human, and are rolled
out from test seeds. FM has LFM's parameters in all and the same gradient steps. An earlier
checkpoint in time (early: a third of the steps; ninth: for Square's learning curve) is a run of its
own, learning rate decayed to 0: blocks are trained one after the other, so that half a run is not
a policy. It can be stopped and started again at any time; what is finished is kept in
docs/results/data/robomimic.json.

    lfm-policy collect Lift --episodes 200 --output lift.hdf5
    python scripts/studies/robomimic_table.py lift --dataset lift.hdf5
    python scripts/studies/robomimic_table.py square --dataset square.hdf5 --models fm lfm lfm-2
    python scripts/results/write.py    # the page, of the data
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from pieces import Model, Sampler, Study, Wanted, measure, study_options

# Width of FM's network, which has about the parameters of LFM's two blocks; steps of training;
# episodes per cell.
TASKS = {
    "lift": (272, 20_000, 200),
    "can": (272, 24_000, 200),
    "square": (544, 30_000, 200),
    "tool_hang": (544, 30_000, 50),
    "transport": (544, 30_000, 50),
}
STUDENT = (
    "training.total_steps=12000",
    "distill.samples=8",
    "distill.inputs=corrected",
    "distill.tail_weight=0.1",
)
STEPS = {"lfm": "distill.teacher_steps=8", "fm": "distill.teacher_steps=16"}
FINE = {"lfm": Sampler(64, "midpoint"), "fm": Sampler(32, "midpoint")}
# Policies by model: what they are to readers, and sampler.
POLICIES = {family: (family.upper(), FINE[family]) for family in ("fm", "lfm")}
POLICIES |= {
    f"{family}-{k}": (f"{family.upper()}'s student of {k}", Sampler(k))
    for family in ("fm", "lfm")
    for k in (4, 2, 1)
}
# Earlier checkpoints in time: runs of this part of the steps.
EARLIER = {"early-": 3, "ninth-": 9}


def models_of(task: str) -> dict[str, Model]:
    """Return the models of a task by name; with a prefix of `EARLIER`, earlier in time."""
    width, steps, _ = TASKS[task]
    config = f"robomimic/{task}"
    families = {
        "fm": ("flow.n_blocks=1", "flow.step_sizes=[]", f"network.width={width}"),
        "lfm": (),
    }
    models = {}
    for family, overrides in families.items():
        models[f"{task}-{family}"] = Model(overrides, config=config)
        for prefix, part in EARLIER.items():
            early = (*overrides, f"training.total_steps={steps // part}")
            models[f"{prefix}{task}-{family}"] = Model(early, config=config)
        for k in (4, 2, 1):
            models[f"{task}-{family}-{k}"] = Model(
                (*STUDENT, STEPS[family]), teacher=f"{task}-{family}", nfe=k
            )
    return models


def main() -> None:
    parser = study_options(__doc__)
    parser.add_argument("task", choices=list(TASKS))
    made = {model: ("", model) for model in POLICIES}
    made |= {prefix + model: (prefix, model) for prefix in EARLIER for model in FINE}
    parser.add_argument("--models", nargs="+", choices=made, default=list(made))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    arguments = parser.parse_args()
    study = Study(
        models_of(arguments.task),
        arguments,
        "robomimic.json",
        output=Path("runs/robomimic"),
        episodes=TASKS[arguments.task][2],
    )
    wanted: list[Wanted] = []
    for seed, name in product(arguments.seeds, arguments.models):
        prefix, model = made[name]
        wanted.append((f"{prefix}{arguments.task}-{model}", seed, [POLICIES[model][1]]))
    failures = measure(study, wanted, arguments)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
