"""Cells of a study, and pairs of them, as pages say them.

A template asks a study for a model and a sampler as pusht_studies.yaml writes them:

    {{ state("lfm3 16@0.6").score }}                       0.955
    {{ state("lfm3 16@0.6", n=1000).success }}             0.617
    {{ (state("lfm3 16@0.6") - state("fm 16@0.6")).p }}    p = 1.2e-9
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from listed import At, Listed, Part, sampler_of
from pieces import TEST_SEEDS

from lfm_policy.errors import InputError
from lfm_policy.evaluation import mcnemar_exact, paired_bootstrap
from lfm_policy.text.samplers import evaluations
from resultpages.numbers import exponent, interval, signed, three
from resultpages.rates import Rated

SOLVERS = {"ddpm": "DDPM", "ddim": "DDIM", "dpmsolver++": "DPM-Solver++"}
"""Names of solvers that are written otherwise than in options."""

EPISODES = 200
"""Of a cell, unless its part says otherwise."""

MOST_SEEDS = 10
"""Trainings of a model that are looked for where a study does not list its seeds."""


@dataclass(frozen=True)
class Cells(Rated):
    """A model with one sampler: what its trainings achieved, those that are measured.

    What is read without a call is text; what is computed with is a number.

    Attributes:
        label: the model, for readers.
        found: what was measured, by training seed.
        at: the model, by its name in the study, and how it was sampled.
    """

    label: str
    found: Mapping[int, Mapping[str, Any]]
    at: At

    @property
    def each(self) -> list[Mapping[str, Any]]:
        return list(self.found.values())

    @cached_property
    def mean_score(self) -> float:
        return float(np.mean([cell["summary"]["score"] for cell in self.each]))

    @cached_property
    def solved(self) -> int:
        return sum(cell["summary"]["successes"] for cell in self.each)

    @cached_property
    def n(self) -> int:
        return sum(cell["summary"]["n"] for cell in self.each)

    @property
    def score(self) -> str:
        return three(self.mean_score)

    @property
    def evaluations(self) -> str:
        cell = self.each[0]
        # Without noise it is a regression, whose times are its method's and nobody's choice.
        times = cell.get("block_times", ()) if cell["noise_scale"] else ()
        return evaluations(cell["nfe"], cell.get("nfe_per_block"), times)

    @property
    def noise(self) -> str:
        renoise = self.each[0].get("renoise", 0.0)
        given = f", {renoise:g} between blocks" if renoise else ""
        guidance = self.each[0].get("guidance", 1.0)
        guided = f", guidance {guidance:g}" if guidance != 1 else ""
        return f"{self.each[0]['noise_scale']:g}{given}{guided}"

    @property
    def solver(self) -> str:
        return str(self.each[0]["solver"])

    @property
    def solver_name(self) -> str:
        """The solver, as readers know it."""
        return SOLVERS.get(self.solver, self.solver)

    @property
    def sampler(self) -> str:
        """Evaluations, and solver and noise where they are not the usual."""
        solver = "" if self.solver == "euler" else f", {self.solver_name}"
        noise = "" if self.noise in ("0", "1") else f", noise {self.noise}"
        return f"{self.evaluations}{solver}{noise}"

    @property
    def seeds(self) -> str:
        return str(len(self.found))

    @property
    def scores(self) -> str:
        """The score of every training."""
        return ", ".join(three(cell["summary"]["score"]) for cell in self.each)

    @property
    def successes(self) -> str:
        """The success of every training."""
        return ", ".join(three(cell["summary"]["success_rate"]) for cell in self.each)

    @property
    def lowest(self) -> str:
        """The success of the training that has the lowest."""
        return three(min(cell["summary"]["success_rate"] for cell in self.each))

    @property
    def highest(self) -> str:
        """The success of the training that has the highest."""
        return three(max(cell["summary"]["success_rate"] for cell in self.each))

    @property
    def coverage(self) -> str:
        """Of the last step."""
        return three(float(np.mean([cell["summary"]["final_coverage"] for cell in self.each])))

    @property
    def parameters(self) -> str:
        return f"{self.each[0]['training']['parameters']['total']:,}"

    @property
    def blocks(self) -> int:
        return len(self.each[0]["training"]["block_steps"])

    @property
    def all_steps(self) -> int:
        return int(self.each[0]["training"]["steps"])

    @property
    def steps(self) -> str:
        return f"{self.all_steps:,}"

    @property
    def train_seconds(self) -> float:
        """Of the quickest training: others shared the machine with other programs."""
        return min(float(cell["training"]["train_seconds"]) for cell in self.each)

    @property
    def push_seconds(self) -> float:
        """On average: of two students of a teacher one finds its samples there."""
        return float(np.mean([cell["training"]["push_seconds"] for cell in self.each]))

    @property
    def all_seconds(self) -> list[float]:
        """Of each training, with its push-forward or its samples of the teacher."""
        each = [cell["training"] for cell in self.each]
        return [float(one["train_seconds"] + one["push_seconds"]) for one in each]

    @property
    def training(self) -> str:
        """Seconds of gradient steps, of the quickest training."""
        return f"{self.train_seconds:,.0f}"

    @property
    def push(self) -> str:
        """Seconds of the push-forward, or of a student's samples of its teacher, on average."""
        return f"{self.push_seconds:,.0f}"

    @property
    def seconds(self) -> str:
        return f"{self.train_seconds + self.push_seconds:,.0f}"

    @property
    def step_rate(self) -> str:
        """Gradient steps per second."""
        return f"{self.each[0]['training']['steps'] / self.train_seconds:.0f}"

    def below(self, reward: float) -> str:
        """Return the share of episodes whose largest reward stays below this, in per cent."""
        rewards = [x for cell in self.each for x in cell["max_reward"]]
        return f"{100 * float(np.mean([x < reward for x in rewards])):.0f}%"

    def __sub__(self, other: Cells) -> Paired:
        return Paired(self, other)


@dataclass(frozen=True)
class Paired:
    """Two models on the same episodes of the same training seeds, first minus second."""

    first: Cells
    second: Cells

    @cached_property
    def _pairs(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        a, b = self.first.found, self.second.found
        pairs = [(a[seed], b[seed]) for seed in a if seed in b]
        if not pairs:
            raise InputError(f"no common training seed: {self.first.label}, {self.second.label}")
        return pairs

    @cached_property
    def _rewards(self) -> tuple[tuple[float, ...], ...]:
        each = zip(*self._pairs, strict=True)
        return tuple(tuple(x for cell in cells for x in cell["max_reward"]) for cells in each)

    @cached_property
    def _wins(self) -> tuple[tuple[bool, ...], ...]:
        each = zip(*self._pairs, strict=True)
        return tuple(
            tuple(bit == "1" for cell in cells for bit in cell["success"]) for cells in each
        )

    @property
    def seeds(self) -> str:
        return str(len(self._pairs))

    @property
    def n(self) -> int:
        return len(self._wins[0])

    @property
    def score(self) -> str:
        return signed(float(np.mean(self._rewards[0]) - np.mean(self._rewards[1])))

    @property
    def interval(self) -> str:
        """Of the difference in score."""
        return interval(_bootstrap(*self._rewards))

    @property
    def success(self) -> str:
        return signed(float(np.mean(self._wins[0]) - np.mean(self._wins[1])))

    @property
    def probability(self) -> str:
        """McNemar's exact p."""
        return exponent(_mcnemar(*self._wins))

    @property
    def p(self) -> str:
        return f"p = {self.probability}"

    @property
    def text(self) -> str:
        """Both differences in a few words."""
        return f"{self.score} {self.interval} in score and {self.success} in success ({self.p})"


@cache
def _bootstrap(first: tuple[float, ...], second: tuple[float, ...]) -> tuple[float, float]:
    low, high = paired_bootstrap(first, second)
    return low, high


@cache
def _mcnemar(first: tuple[bool, ...], second: tuple[bool, ...]) -> float:
    return mcnemar_exact(first, second)


class StudyResults:
    """What a study has measured: called with a model and a sampler, it returns their cells."""

    def __init__(self, listed: Listed, folder: Path) -> None:
        """Read the archive of a study, which is in ``folder``."""
        self.labels = listed.labels
        self.parts = listed.parts
        self.seeds = listed.seeds
        self._seed_start = listed.seed_start
        self._path = folder / listed.archive
        self._cells: dict[str, Any] = json.loads(self._path.read_text())

    def __call__(self, at: str, *, n: int = EPISODES, seed: int | None = None) -> Cells:
        """Return the cells of ``model sampler``, of one or all training seeds.

        Raises:
            InputError: none is measured.
        """
        if cells := self.known(at, n=n, seed=seed):
            return cells
        raise InputError(f"{self._path.name} has no cell of {at!r} with {n} episodes")

    def known(self, at: str, *, n: int = EPISODES, seed: int | None = None) -> Cells | None:
        """Return the same, or None where none is measured."""
        model, _, sampler = at.partition(" ")
        seeds = self.seeds if seed is None else (seed,)
        return self._find((model, sampler_of(sampler, n)), seeds)

    def rows(self, part: str, *models: str) -> list[Cells]:
        """Return what is measured of a part, or of some of its models."""
        listed = self._part(part)
        return [
            cells
            for at in listed.rows
            if not models or at[0] in models
            if (cells := self._find(at, listed.seeds))
        ]

    def tests(self, part: str) -> list[Paired]:
        """Return the comparisons of a part, those that can be made."""
        listed = self._part(part)
        pairs = [[self._find(at, listed.seeds) for at in pair] for pair in listed.compare]
        return [
            first - second
            for first, second in pairs
            if first and second and first.found.keys() & second.found.keys()
        ]

    def missing(self, part: str) -> int:
        """Return how many cells of a part are not measured."""
        listed = self._part(part)
        found = (self._find(at, listed.seeds) for at in listed.rows)
        return sum(len(listed.seeds) - (len(cells.found) if cells else 0) for cells in found)

    def _part(self, name: str) -> Part:
        if name not in self.parts:
            raise InputError(f"there is no part {name!r}, only {', '.join(self.parts)}")
        return self.parts[name]

    def _find(self, at: At, seeds: tuple[int, ...]) -> Cells | None:
        model, sampler = at
        episodes = sampler.episodes or EPISODES
        found = by_seed(self._cells, at, episodes, seeds, self._seed_start)
        return Cells(self.labels[model], found, at) if found else None


def by_seed(
    cells: Mapping[str, Any],
    at: At,
    episodes: int,
    seeds: Iterable[int] = range(MOST_SEEDS),
    seed_start: int = TEST_SEEDS,
) -> dict[int, Any]:
    """Return the cells of a model and a sampler in the archive of a study, by training seed."""
    model, sampler = at
    keys = {seed: f"{model} seed{seed} {sampler} n{episodes} from{seed_start}" for seed in seeds}
    return {seed: cells[key] for seed, key in keys.items() if key in cells}
