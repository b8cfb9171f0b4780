"""Numbers in tables, figures, films and on pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

_MORE_DIGITS = 4


def rounded(value: float, digits: int = 2, *, limits: Sequence[float] = (1.0,)) -> str:
    """Return a number with ``digits`` decimals that never looks like a limit it does not reach.

    A reward of 0.995 is not a success, and so not "1.00": where rounding leads onto a limit, there
    are as many more decimals as it takes, here "0.995".

    Args:
        value: the number.
        digits: decimals where nothing speaks against it.
        limits: what must not be reached by rounding: 1, the largest reward and score.
    """
    if not math.isfinite(value):
        return f"{value:g}"
    for decimals in range(digits, digits + _MORE_DIGITS + 1):
        text = f"{value:.{decimals}f}"
        if not any(_crosses(value, float(text), limit) for limit in limits):
            return text
    # Nearer to the limit than decimals make sense: cut off on the side where it is.
    step = 10.0**-decimals
    (limit,) = (limit for limit in limits if _crosses(value, float(text), limit))
    return f"{limit + math.copysign(step, value - limit):.{decimals}f}"


def percent(share: float, digits: int = 0) -> str:
    """Return a share of 0 to 1 as per cent; 0% and 100% are said of nothing less than that."""
    return f"{rounded(100 * share, digits, limits=(0.0, 100.0))}%"


def counted(count: float, unit: str) -> str:
    """Return a number of units, such as ``"1 step"`` or ``"30,000 steps"``."""
    several = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
    return f"{count:,.0f} {unit if round(count) == 1 else several}"


def duration(seconds: float) -> str:
    """Return a time in two digits or so, such as ``"62 ms"``, ``"39 s"`` or ``"1 h 10 min"``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 10:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    hours = round(seconds / 3600)
    return f"{hours} h" if hours < 72 else f"{hours / 24:.0f} days"


def size(n_bytes: float) -> str:
    """Return a size in bytes, such as ``"640 MB"``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= 0.995 * factor:
            value = n_bytes / factor
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return "less than 1 MB"


def _crosses(value: float, shown: float, limit: float) -> bool:
    return value < limit <= shown or shown <= limit < value
