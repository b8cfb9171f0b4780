"""Markdown tables of results, at most eight columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lfm_policy.text.numbers import counted
from resultpages.cells import Cells, Paired, StudyResults

MOST_COLUMNS = 8

COLUMNS = {
    "label": "policy",
    "sampler": "evaluations",
    "evaluations": "evaluations",
    "noise": "noise",
    "score": "score",
    "success": "success",
    "counts": "solved",
    "interval": "95% interval",
    "scores": "score, each training",
    "successes": "success, each training",
    "coverage": "coverage at the end",
    "seeds": "trainings",
    "parameters": "parameters",
    "steps": "gradient steps",
    "training": "training (s)",
    "push": "push-forward or teacher's samples (s)",
    "seconds": "in all (s)",
    "step_rate": "steps per second",
}
"""Heads of the columns that a table of cells may have, by the attribute of `Cells`."""


def table(heads: str, rows: Iterable[Sequence[object]]) -> str:
    """Return a table.

    Args:
        heads: of the columns, with ``|`` between them.
        rows: of cells, as many as there are heads.

    Raises:
        ValueError: a table too wide to be read, or a row of another length.
    """
    columns = [head.strip() for head in heads.split("|")]
    if len(columns) > MOST_COLUMNS:
        raise ValueError(f"{len(columns)} columns, at most {MOST_COLUMNS}: {heads}")
    lines = [columns, ["---"] * len(columns)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} cells under {len(columns)} heads: {row}")
        lines.append([str(cell) for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def policies(rows: Iterable[Cells], columns: str = "label sampler score success interval") -> str:
    """Return a table of cells, a row each; ``columns`` are names of `COLUMNS`."""
    names = columns.split()
    heads = " | ".join(COLUMNS[name] for name in names)
    return table(heads, [[getattr(cells, name) for name in names] for cells in rows])


def comparisons(pairs: Iterable[Paired], *, short: bool = False) -> str:
    """Return a table of comparisons; ``short`` leaves the samplers out."""
    heads = "first | second | score, first minus second | 95% interval | success | p | n"
    return table(
        heads,
        [
            (
                *(c.label if short else f"{c.label} ({c.sampler})" for c in (d.first, d.second)),
                d.score,
                d.interval,
                d.success,
                d.probability,
                f"{d.n:,}",
            )
            for d in pairs
        ],
    )


def everything(study: StudyResults, part: str) -> str:
    """Return all cells of a part: each training, what it cost, comparisons, what is missing."""
    rows = study.rows(part)
    tables = [
        policies(rows, "label sampler counts interval scores successes"),
        costs(rows),
        comparisons(study.tests(part)) if study.tests(part) else "",
    ]
    if missing := study.missing(part):
        tables.append(f"Not measured yet: {counted(missing, 'training')} of these rows.")
    return "\n\n".join(filter(None, tables))


def costs(rows: Iterable[Cells]) -> str:
    """Return what models cost, a row for each that has other seconds."""
    names = ("label", "parameters", "steps", "training", "push", "seconds", "step_rate")
    found = dict.fromkeys(tuple(getattr(cells, name) for name in names) for cells in rows)
    return table(" | ".join(COLUMNS[name] for name in names), found)
