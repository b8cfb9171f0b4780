"""The studies on PushT: trains, distils and evaluates what pusht_studies.yaml lists.

One part of a study after the other is measured, two jobs of one thread side by side. A study can be
stopped and started again at any time. What is finished is kept in docs/results/data/*.json, of
which `scripts/results/write.py` makes the pages. There are "few-steps" and other parts of the study
proper, on test seeds, when nothing is named, and further ones such as "thousand" and "images" when
they are; on selection seeds, by which settings were chosen, "sweep" (teachers), "noise" (of
students), "encoders" and "looks" (of images).

    python scripts/studies/pusht_study.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/studies/pusht_study.py --dataset ... --parts few-steps --seeds 0
    python scripts/studies/pusht_study.py --dataset ... --parts sweep --models n2-g01 n3
"""

from __future__ import annotations

from listed import listed_studies
from pieces import Study, measure, study_options


def main() -> None:
    studies = listed_studies()
    every = [name for study in studies.values() for name in study.parts]
    usual = [name for study in studies.values() for name in study.usual]
    parser = study_options(__doc__)
    parser.add_argument(
        "--parts", nargs="+", choices=every, default=usual, help=f"default: {', '.join(usual)}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="training seeds; default all")
    parser.add_argument("--models", nargs="+", help="only these; default all")
    arguments = parser.parse_args()
    wanted = {name: list(listed.wanted(arguments.parts)) for name, listed in studies.items()}
    every_one = [one for chains in wanted.values() for one in chains]
    for option, known in (
        ("models", {model for model, _, _ in every_one}),
        ("seeds", {seed for _, seed, _ in every_one}),
    ):
        if unknown := set(getattr(arguments, option) or ()) - known:
            said = ", ".join(map(str, sorted(unknown)))
            parser.error(
                f"--{option} {said}: none of the parts {', '.join(arguments.parts)} has it"
            )
    failures = []
    for name, listed in studies.items():
        study = Study(
            listed.models,
            arguments,
            listed.archive,
            output=listed.output,
            seed_start=listed.seed_start,
        )
        chosen = [
            one
            for one in wanted[name]
            if (arguments.seeds is None or one[1] in arguments.seeds)
            and (arguments.models is None or one[0] in arguments.models)
        ]
        failures += measure(study, chosen, arguments)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
