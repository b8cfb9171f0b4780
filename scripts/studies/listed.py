"""The studies of pusht_studies.yaml: their models, what readers call these, and their cells."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pieces import SELECTION_SEEDS, TEST_SEEDS, Model, Sampler, Wanted

ALTERNATIVES = re.compile(r"\{([^{}]*,[^{}]*)\}")

SOLVER_LETTERS = f"{string.ascii_lowercase}+"
"""Of the names of solvers, as of ``dpmsolver++``."""
PART = re.compile(r"\.(?![^(]*\))")
"""Between two blocks of a sampler: a full stop outside brackets."""
BLOCK = re.compile(r"(?P<nfe>\d+)(\((?P<times>[\d.;]+)\))?")

At = tuple[str, Sampler]
"""A model, by its name, and how it is sampled."""


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
    """Return the sampler of ``16@0.6`` (Euler), ``m64@0.6`` (midpoint) or ``ddim10@1`` (ddim).

    ``1.1.3(0.6;0.2)@0.6`` has evaluations for each block, block 1 first, and times at which the
    steps of one end; ``3@0.6~1`` gives chunks all of each block's noise, and ``16@0.6^2`` follows
    the observation with a weight of 2.
    """
    written, _, guidance = text.partition("^")
    written, _, renoise = written.partition("~")
    written, _, noise = written.partition("@")
    spent = written.lstrip(SOLVER_LETTERS)
    solver = written.removesuffix(spent)
    solver = {"": "euler", "m": "midpoint"}.get(solver, solver)
    blocks = [BLOCK.fullmatch(block) for block in PART.split(spent)]
    if not all(blocks):
        raise ValueError(f"{text!r} is no sampler, such as 16@0.6, m64@0.6 or 1.1.3(0.6;0.2)@0.6")
    nfe = [int(block["nfe"]) for block in blocks if block]
    inner = [block["times"] for block in blocks if block]
    times = tuple(tuple(map(float, one.split(";"))) if one else () for one in inner)
    return Sampler(
        nfe[0] if len(nfe) == 1 else tuple(nfe),
        solver,
        float(noise) if noise else None,
        episodes,
        times if any(times) else (),
        float(renoise) if renoise else None,
        float(guidance) if guidance else None,
    )


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
        elif key in ("config", "encoder_of", "teacher", "student_config", "method"):
            fields[key] = value
        else:
            overrides[key] = word
    return Model(tuple(overrides.values()), **fields)


@dataclass(frozen=True)
class Part:
    """What one question takes.

    Attributes:
        name: what it is asked for by.
        rows: models and how they are sampled.
        compare: pairs to test against each other, first minus second.
        seeds: of the trainings.
        episodes: of a cell; 0: as many as the study has.
    """

    name: str
    rows: tuple[At, ...]
    compare: tuple[tuple[At, At], ...]
    seeds: tuple[int, ...]
    episodes: int


def part_of(name: str, written: Mapping[str, Any], seeds: Sequence[int]) -> Part:
    """Return a part of pusht_studies.yaml; ``seeds`` are those of its study."""
    episodes = written.get("episodes", 0)

    def cells(text: str) -> list[At]:
        model, *samplers = text.split()
        return [(model, sampler_of(one, episodes)) for one in samplers]

    rows = [one for line in lines_of(written["rows"]) for one in cells(line.replace(" | ", " "))]
    compare: list[tuple[At, At]] = []
    for line in lines_of(written.get("compare", "")):
        first, second = line.split(" - ")
        compare += zip(cells(first), cells(second), strict=True)
    own_seeds = tuple(written.get("seeds", seeds))
    return Part(name, tuple(rows), tuple(compare), own_seeds, episodes)


@dataclass(frozen=True)
class Listed:
    """A study as pusht_studies.yaml lists it.

    Attributes:
        models: by name.
        labels: what a reader is told instead of a name.
        parts: by name.
        usual: parts that are measured when none is named.
        order: groups of models, the most important first.
        archive: name of the file with the finished cells.
        output: run folders.
        seeds: of the trainings.
        seed_start: first environment seed.
    """

    models: dict[str, Model]
    labels: dict[str, str]
    parts: dict[str, Part]
    usual: list[str]
    order: list[list[str]]
    archive: str
    output: Path
    seeds: tuple[int, ...]
    seed_start: int

    def wanted(self, parts: Container[str]) -> Iterator[Wanted]:
        """Yield model, training seed and samplers of some parts, in the order to make them."""
        samplers: dict[tuple[str, int], dict[Sampler, None]] = {}
        for name in filter(parts.__contains__, self.parts):
            for (model, sampler), seed in product(self.parts[name].rows, self.parts[name].seeds):
                samplers.setdefault((model, seed), {})[sampler] = None
        seeds = sorted({seed for _, seed in samplers})
        for models in self.order:
            for seed, model in product(seeds, models):
                if (model, seed) in samplers:
                    yield model, seed, list(samplers[model, seed])


@cache
def listed_studies() -> dict[str, Listed]:
    """Return all studies by name."""
    file = yaml.safe_load((Path(__file__).parent / "pusht_studies.yaml").read_text())
    found = {}
    for name, study in file.items():
        source = file[study.get("models_of", name)]
        options = source.get("options", {})
        models = {
            model: model_of(text, options) for model, text in _by_name(source["models"]).items()
        }
        found[name] = Listed(
            models,
            _by_name(source["labels"]),
            {part: part_of(part, w, study["seeds"]) for part, w in study["parts"].items()},
            study.get("usual", []),
            [group.split() for group in study.get("order", " ".join(models)).splitlines()],
            study["archive"],
            Path(study["output"]),
            tuple(study["seeds"]),
            SELECTION_SEEDS if study.get("selection") else TEST_SEEDS,
        )
    return found


def _by_name(written: Mapping[str, str | None]) -> dict[str, str]:
    """Return texts by name, a name with alternatives as the names that it stands for."""
    lines = (one for key, text in written.items() for one in alternatives(f"{key}\n{text or ''}"))
    return {name: text for name, _, text in (line.partition("\n") for line in lines)}
