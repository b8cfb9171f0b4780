"""The studies of docs/results.md on PushT: their tables, tests and plots.

Models are trained, distilled and evaluated, one part of a study after the other, two jobs of one
thread side by side. A study can be stopped and started again at any time. What is finished is kept
in docs/results/*.json, and the tables are written into docs/results.md with the cells that are
there. What is measured is listed in pusht_studies.yaml: "few-steps" and other parts of the study
proper on test seeds when nothing is named, further ones such as "thousand" when they are; on
selection seeds, by which settings were chosen, "sweep" (teachers), "noise" (of students) and
"encoders" (of images).

    python scripts/studies/pusht_study.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/studies/pusht_study.py --dataset ... --parts few-steps --seeds 0
    python scripts/studies/pusht_study.py --dataset ... --parts sweep --models n2-g01 n3
    python scripts/studies/pusht_study.py --tables-only
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pieces import (
    SELECTION_SEEDS,
    TEST_SEEDS,
    Model,
    Sampler,
    Study,
    Wanted,
    measure,
    study_options,
)
from study_tables import PLOTS, Part, Row, write_part

ALTERNATIVES = re.compile(r"\{([^{}]*,[^{}]*)\}")


def alternatives(line: str) -> Iterator[str]:
    """Yield a line for each of its alternatives: ``a{1,2} {x,y}`` is ``a1 x`` and ``a2 y``."""
    groups = [group.split(",") for group in ALTERNATIVES.findall(line)]
    if not groups:
        yield line
        return
    for chosen in zip(*groups, strict=True):
        rest = iter(chosen)
        yield ALTERNATIVES.sub(lambda _: next(rest), line)  # noqa: B023


def lines_of(text: str) -> list[str]:
    return [line for written in text.splitlines() for line in alternatives(written)]


def sampler_of(text: str, episodes: int = 0) -> Sampler:
    """Return the sampler of ``16@0.6`` (Euler) or ``m64@0.6`` (midpoint)."""
    nfe, _, noise = text.partition("@")
    solver = "midpoint" if nfe.startswith("m") else "euler"
    return Sampler(int(nfe.lstrip("m")), solver, float(noise) if noise else None, episodes)


def model_of(text: str, options: Mapping[str, str]) -> Model:
    """Return the model of ``field=value``, ``section.key=value`` and ``$name`` of ``options``."""
    fields: dict[str, Any] = {}
    overrides = {}
    while "$" in text:
        text = re.sub(r"\$([\w-]+)", lambda name: options[name[1]], text)
    for word in shlex.split(text):
        key, _, value = word.partition("=")
        if key in ("nfe", "recorded"):
            fields[key] = int(value)
        elif key == "groups":
            fields[key] = tuple(map(int, value.split(",")))
        elif key == "recorded_with":
            fields[key] = sampler_of(value)
        elif key in ("config", "teacher", "method"):
            fields[key] = value
        else:
            overrides[key] = word
    return Model(tuple(overrides.values()), **fields)


def part_of(name: str, written: Mapping[str, Any], seeds: list[int]) -> Part:
    """Return a table of pusht_studies.yaml; ``seeds`` are those of its study."""
    episodes = written.get("episodes", 0)

    def cells(text: str) -> list[tuple[str, Sampler]]:
        model, *samplers = text.split()
        return [(model, sampler_of(one, episodes)) for one in samplers]

    rows = []
    for line in lines_of(written["rows"]):
        *label, model, samplers = (cell.strip() for cell in line.split(" | "))
        one = tuple(sampler for _, sampler in cells(f"{model} {samplers}"))
        rows.append(Row(label[0] if label else model, model, one))
    compare = []
    for line in lines_of(written.get("compare", "")):
        first, second = line.split(" - ")
        compare += list(zip(cells(first), cells(second), strict=True))
    plot, seconds = PLOTS[written["plot"]], written.get("seconds", False)
    own_seeds = tuple(written.get("seeds", seeds))
    return Part(name, tuple(rows), plot, tuple(compare), seconds, own_seeds)


@dataclass(frozen=True)
class Listed:
    """A study as pusht_studies.yaml lists it.

    Attributes:
        models: by name.
        parts: tables by name.
        usual: parts that are measured when none is named.
        order: groups of models, the most important first.
        archive: name of the file with the finished cells.
        output: run folders.
        seed_start: first environment seed.
    """

    models: dict[str, Model]
    parts: dict[str, Part]
    usual: list[str]
    order: list[list[str]]
    archive: str
    output: Path
    seed_start: int

    def wanted(self, parts: Container[str]) -> Iterator[Wanted]:
        """Yield model, training seed and samplers of some parts, in the order to make them."""
        samplers: dict[tuple[str, int], dict[Sampler, None]] = {}
        for name in filter(parts.__contains__, self.parts):
            for row, seed in product(self.parts[name].rows, self.parts[name].seeds):
                samplers.setdefault((row.model, seed), {}).update(dict.fromkeys(row.samplers))
        seeds = sorted({seed for _, seed in samplers})
        for models in self.order:
            for seed, model in product(seeds, models):
                if (model, seed) in samplers:
                    yield model, seed, list(samplers[model, seed])


def listed_studies() -> dict[str, Listed]:
    """Return all studies by name."""
    file = yaml.safe_load((Path(__file__).parent / "pusht_studies.yaml").read_text())
    found = {}
    for name, study in file.items():
        source = file[study.get("models_of", name)]
        models = {}
        for key, text in source["models"].items():
            for line in alternatives(f"{key}\n{text or ''}"):
                model, _, written = line.partition("\n")
                models[model] = model_of(written, source.get("options", {}))
        order = study.get("order", " ".join(models))
        found[name] = Listed(
            models,
            {part: part_of(part, w, study["seeds"]) for part, w in study["parts"].items()},
            study.get("usual", []),
            [group.split() for group in order.splitlines()],
            study["archive"],
            Path(study["output"]),
            SELECTION_SEEDS if study.get("selection") else TEST_SEEDS,
        )
    return found


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
    failures = []
    for listed in studies.values():
        study = Study(
            listed.models,
            arguments,
            listed.archive,
            output=listed.output,
            seed_start=listed.seed_start,
        )
        wanted = [
            one
            for one in listed.wanted(arguments.parts)
            if (arguments.seeds is None or one[1] in arguments.seeds)
            and (arguments.models is None or one[0] in arguments.models)
        ]
        failures += measure(study, wanted, arguments)
        for part in listed.parts.values():
            write_part(part, study, arguments.results)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
