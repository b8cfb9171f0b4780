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


def _crosses(value: float, shown: float, limit: float) -> bool:
    return value < limit <= shown or shown <= limit < value
