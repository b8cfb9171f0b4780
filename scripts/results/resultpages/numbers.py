"""Numbers as the pages of results write them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def three(value: float) -> str:
    """Return a score or a success, such as ``0.640``."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """Return a difference, such as ``+0.031``."""
    return f"{value:+.3f}"


def interval(limits: Sequence[float]) -> str:
    """Return the interval of a difference, such as ``[-0.024, +0.002]``."""
    return f"[{', '.join(map(signed, limits))}]"


def exponent(value: float) -> str:
    """Return a probability with two digits, such as ``0.024`` or ``1.2e-9``."""
    return re.sub(r"e-0*", "e-", f"{value:.2g}")
