"""What a training takes in all, in words and numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lfm_policy.text.numbers import counted, duration, size
from lfm_policy.training.estimate.work import Share

LONG_SECONDS = 2 * 3600.0
"""A training that takes longer says what could be changed."""

LONG_STEP_SECONDS = 1.0
"""One whose steps take longer does, too."""

GOAL_SECONDS = 3600.0
"""What is proposed brings a training down to this."""


@dataclass(frozen=True)
class Estimate:
    """Time, memory and disk of a training, before it begins.

    Attributes:
        shares: what is done, and how long it takes; in the order in which it is done.
        device: such as ``"cpu (2 threads)"``.
        memory_bytes: an upper bound of the memory of the process, or of the GPU where there is one.
        disk_bytes: what is written, by what it is.
        advice: what to change where it takes long, in sentences; empty where it does not.
        busy: says so where other programs made what was measured too long; else empty.
    """

    shares: tuple[Share, ...]
    device: str
    memory_bytes: int = 0
    disk_bytes: Mapping[str, int] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    busy: str = ""

    @property
    def seconds(self) -> float:
        """Seconds of all shares."""
        return sum(share.seconds for share in self.shares)

    @property
    def dominant(self) -> Share | None:
        """What takes longest; None where nothing is left to be done."""
        return max(self.shares, key=lambda share: share.seconds, default=None)

    @property
    def is_long(self) -> bool:
        """Whether it takes so long in all, or a single step does, that one would want to know."""
        slow = any(s.each > LONG_STEP_SECONDS and s.unit == "step" for s in self.shares)
        return slow or self.seconds > LONG_SECONDS

    def with_advice(self, advice: Sequence[str]) -> Estimate:
        """Return the same with advice, which is for long trainings."""
        return replace(self, advice=tuple(advice))

    def text(self, now: float | None = None) -> str:
        """Return it as a paragraph, with advice in lines of its own.

        Args:
            now: seconds since the epoch at which the training begins; None: at once.
        """
        parts = [
            f"{share.label} {duration(share.seconds)} "
            f"({counted(share.count, share.unit)} of {duration(share.each)})"
            for share in self.shares
            if share.seconds >= 0.02 * self.seconds
        ]
        disk = sum(self.disk_bytes.values())
        largest = max(self.disk_bytes, key=lambda key: self.disk_bytes[key], default="")
        end = ending(self.seconds, time.time() if now is None else now)
        lines = [
            f"estimate: about {duration(self.seconds)} on {self.device}, done {end}: "
            + ", ".join(parts),
            f"    memory up to {size(self.memory_bytes)}, disk {size(disk)}"
            + (f" (most of it {largest})" if disk > 50_000_000 else ""),
        ]
        return "\n".join([*lines, *(f"    {sentence}" for sentence in self.said)])

    @property
    def said(self) -> tuple[str, ...]:
        """What is to be said besides the numbers, in sentences."""
        return (self.busy, *self.advice) if self.busy else self.advice

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": dict(self.disk_bytes),
            "shares": [
                {
                    "label": share.label,
                    "unit": share.unit,
                    "count": share.count,
                    "seconds_each": share.each,
                    "seconds": round(share.seconds, 3),
                }
                for share in self.shares
            ],
            "advice": list(self.advice),
            "busy": self.busy,
        }


def ending(seconds: float, now: float) -> str:
    """Return when something that begins ``now`` ends, such as ``"about 14:32"``."""
    end = time.localtime(now + seconds)
    if seconds > 6 * 86400:
        return time.strftime("on %d %B %Y", end)
    return time.strftime("about %H:%M" if seconds < 12 * 3600 else "%A about %H:%M", end)


def fewer(count: float, factor: float) -> int:
    """Return ``count * factor`` rounded down to two digits, at least 1."""
    wanted = max(1, int(count * factor))
    digit = 10 ** max(0, len(str(wanted)) - 2)
    return wanted // digit * digit
