"""One thing that is wrong, or looks wrong, with a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A warning.

    Attributes:
        kind: which check gave it, such as ``"outlier"``; the same for all its findings.
        message: one line that names key, dimension, episode or steps and says what to do.
        facts: the same as plain JSON values, for programs.
    """

    kind: str
    message: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: kind, message and the facts."""
        return {"kind": self.kind, "message": self.message, **self.facts}


def listed(items: Sequence[object], limit: int = 8) -> str:
    """Return ``"1, 2, 3 and 7 more"``: at most ``limit`` items by name."""
    text = ", ".join(str(item) for item in items[:limit])
    return text if len(items) <= limit else f"{text} and {len(items) - limit} more"
