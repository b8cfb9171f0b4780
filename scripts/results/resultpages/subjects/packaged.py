"""The policies that come with the package: what was measured for their model cards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resultpages.numbers import three
from resultpages.rates import Rate


@dataclass(frozen=True)
class Bundled(Rate):
    """One policy of the package.

    Attributes:
        score: mean of the largest rewards.
        evaluations: network evaluations per chunk.
    """

    score: str
    evaluations: str


def names(data: Path) -> dict[str, Any]:
    """Return ``packaged``, which is called with the name of a policy."""
    return {"packaged": bundled_policies(data), "rate": Rate}


def bundled_policies(data: Path) -> Callable[[str], Bundled]:
    """Return what finds the figures of a policy by its name."""
    reports = json.loads((data / "bundled.json").read_text())

    def find(name: str) -> Bundled:
        (cell,) = reports[name]["cells"]
        found = cell["summary"]
        return Bundled(found["successes"], found["n"], three(found["score"]), f"{cell['nfe']:g}")

    return find
