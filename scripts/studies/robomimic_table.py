"""The robot table for one task of robomimic: LFM, FM, Diffusion Policy and MIP, and students.

Policies learn from a robomimic HDF5 file, collected (`lfm-policy collect`) or human, and are rolled
out from test seeds. FM, Diffusion Policy and MIP are one network with the parameters of LFM's three
blocks, trained the same gradient steps on the same demonstrations. --demos says how many of these
all learn from; the page has the cells of 200, those of other numbers are in the data alone. An
earlier checkpoint in time (early: a third of the steps) is a run of its own, learning rate decayed
to 0: blocks are trained one after the other, so that half a run is not a policy. It can be stopped
and started again at any time, and --minutes stops it by itself; what is finished is kept in
docs/results/data/robomimic.json, for the page, which is of collected demonstrations. Others, such
as the human ones, get a table of their own: --data and --output name its folders, and --table
prints it.

    lfm-policy collect Can --episodes 200 --output can.hdf5
    python scripts/studies/robomimic_table.py can --dataset can.hdf5 --minutes 50
    python scripts/studies/robomimic_table.py can --dataset can.hdf5 --demos 50 --models lfm fm
    python scripts/results/write.py    # the page, of the data

    lfm-policy download robomimic/can/ph
    python scripts/studies/robomimic_table.py can --data runs/human --output runs/human \\
        --dataset data/robomimic/can/ph/low_dim_v141.hdf5
    python scripts/studies/robomimic_table.py can --table --data runs/human
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pieces import (
    DATA,
    Model,
    Sampler,
    Study,
    Wanted,
    measure,
    of_demos,
    stop_after,
    study_options,
)

from lfm_policy.collect.collect import facts_of
from lfm_policy.evaluation.statistics import mcnemar_exact
from lfm_policy.text.tables import TextTable

ARCHIVE = "robomimic.json"


@dataclass(frozen=True)
class Task:
    """A task of robomimic, as it is measured.

    Attributes:
        steps: gradient steps of its configuration.
        width: of one network with the parameters of LFM's blocks.
        episodes: of a cell.
    """

    steps: int
    width: int
    episodes: int = 200


SMALL, MEDIUM = 336, 672
"""Widths of one network like three blocks of shared/mlp_small.yaml, of shared/mlp_medium.yaml."""
TASKS = {
    "lift": Task(20_000, SMALL),
    "can": Task(24_000, SMALL),
    "square": Task(30_000, MEDIUM),
    "tool_hang": Task(30_000, MEDIUM),
    "transport": Task(30_000, MEDIUM),
}
ONE_BLOCK = ("flow.n_blocks=1", "flow.step_sizes=[]")
DIFFUSION = ("flow.method=diffusion", "sampler.solver=ddim", "sampler.nfe=10")
MIP = ("flow.method=regression", "flow.time.name=points", "flow.time.points=[1.0,0.1]")
KINDS = {
    "lfm": ((), "LFM", Sampler(16)),
    "fm": (ONE_BLOCK, "FM", Sampler(16)),
    "diffusion": (
        (*ONE_BLOCK, *DIFFUSION, "sampler.noise_scale=1.0"),
        "Diffusion Policy",
        Sampler(10, "ddim"),
    ),
    "mip": (
        (*ONE_BLOCK, *MIP, "sampler.nfe=2", "sampler.times=[0.1]", "sampler.noise_scale=0.0"),
        "two-step regression (MIP)",
        Sampler(2),
    ),
}
"""What networks are trained as: options, name for readers, and sampler."""
RECORDED = 100
"""Episodes of the teacher that students learn from, too."""
GROUPS = {("lfm", 2): (2, 1)}
# Policies by model: what they are to readers, and sampler.
POLICIES = {kind: (label, sampler) for kind, (_, label, sampler) in KINDS.items()}
POLICIES |= {
    f"{kind}-{k}": (f"{POLICIES[kind][0]}'s student of {k}", Sampler(k))
    for kind in ("lfm", "fm")
    for k in (2, 1)
}
EARLIER = {"early-": 3}
"""Earlier checkpoints in time: runs of this part of the steps."""
DEMOS = 200
"""Demonstrations that all learn from unless it is said."""


def models_of(task: str, demos: int = DEMOS) -> dict[str, Model]:
    """Return the models of a task by name, see `name_of`."""
    config = f"robomimic/{task}"
    fewer = () if demos == DEMOS else (f"dataset.max_episodes={demos}",)
    models = {}
    for kind, (own, _, _) in KINDS.items():
        wide = () if kind == "lfm" else (f"network.width={TASKS[task].width}",)
        overrides = (*own, *wide, *fewer)
        models[name_of(task, kind, demos)] = Model(overrides, config=config)
        for prefix, part in EARLIER.items():
            early = (*overrides, f"training.total_steps={TASKS[task].steps // part}")
            models[prefix + name_of(task, kind, demos)] = Model(early, config=config)
    for kind, k in product(("lfm", "fm"), (2, 1)):
        models[name_of(task, f"{kind}-{k}", demos)] = Model(
            teacher=name_of(task, kind, demos),
            nfe=k,
            groups=GROUPS.get((kind, k), ()),
            recorded=RECORDED,
        )
    return models


def name_of(task: str, model: str, demos: int = DEMOS) -> str:
    """Return what a model of some demonstrations is called in the archive."""
    return of_demos(f"{task}-{model}", demos, DEMOS)


def print_table(archive: Path, task: str) -> None:
    """Print the success of every model and training seed of a task, and how LFM's compares."""
    if not archive.exists():
        raise SystemExit(f"{archive}: nothing has been measured")
    cells = json.loads(archive.read_text())
    table = TextTable("policy", "NFE", "success", "95% interval", "against LFM", title=task)
    for key, cell in cells.items():
        model, seed, *how = key.split()
        if not model.removeprefix("early-").startswith(f"{task}-"):
            continue
        (episodes,) = (part for part in how if part.startswith("n"))
        teacher = f"{task}-lfm {seed} {POLICIES['lfm'][1]} {episodes} "
        lfm = next((c for k, c in cells.items() if k.startswith(teacher)), cell)
        low, high = cell["summary"]["success_interval"]
        more = cell["summary"]["success_rate"] - lfm["summary"]["success_rate"]
        p = mcnemar_exact(*([s == "1" for s in c["success"]] for c in (cell, lfm)))
        against = "" if lfm is cell else f"{more:+.3f} (p = {p:.2g})"
        rate = f"{cell['summary']['success_rate']:.3f}"
        table.add_row(
            f"{model} {seed}", f"{cell['nfe']:g}", rate, f"{low:.3f}..{high:.3f}", against
        )
    table.print()


def main() -> None:
    parser = study_options(__doc__)
    parser.add_argument("task", choices=list(TASKS))
    made = {model: ("", model) for model in POLICIES}
    made |= {prefix + kind: (prefix, kind) for prefix in EARLIER for kind in KINDS}
    parser.add_argument("--models", nargs="+", choices=made, default=list(POLICIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    parser.add_argument("--demos", type=int, default=DEMOS, help="how many; default 200")
    parser.add_argument("--table", action="store_true", help="print what is known, and run nothing")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same call goes on")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(arguments.data / ARCHIVE, arguments.task)
        return
    usual = arguments.data.resolve() == DATA.resolve() or arguments.output is None
    if usual and arguments.dataset is not None and facts_of(arguments.dataset) is None:
        parser.error(
            f"{arguments.dataset}: is not collected, as the demonstrations of the page are: give "
            "the table of others folders of its own, --data and --output"
        )
    stop_after(arguments.minutes)
    study = Study(
        models_of(arguments.task, arguments.demos),
        arguments,
        ARCHIVE,
        output=Path("runs/robomimic"),
        episodes=TASKS[arguments.task].episodes,
    )
    wanted: list[Wanted] = []
    for seed, name in product(arguments.seeds, arguments.models):
        prefix, model = made[name]
        full = prefix + name_of(arguments.task, model, arguments.demos)
        wanted.append((full, seed, [POLICIES[model][1]]))
    failures = measure(study, wanted, arguments)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
