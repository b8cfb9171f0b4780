"""Lines of log about what may happen in every tick of an hour."""

from __future__ import annotations


class Occasions:
    """Counts something; worth a line are the 1st, 2nd, 4th, 8th, ... time."""

    def __init__(self) -> None:
        self.count = 0

    def again(self) -> bool:
        """Count one more; return whether it is worth a line."""
        self.count += 1
        return self.count & (self.count - 1) == 0

    def __str__(self) -> str:
        """Return what to add to the line: nothing the first time."""
        return "" if self.count < 2 else f" ({self.count} times so far)"
