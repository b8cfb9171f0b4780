"""How smooth a sequence of actions or positions is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rms_jerk(values: Sequence[np.ndarray] | np.ndarray, hz: float) -> float:
    """Return the root mean square of the jerk, the third derivative in time.

    Args:
        values: (T, D), one row per tick, at least four of them.
        hz: ticks per second.

    Returns:
        sqrt(E |x[t] - 3 x[t-1] + 3 x[t-2] - x[t-3]|^2) * hz^3, in units of the values per second
        cubed; 0 for fewer than four rows.
    """
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) < 4:
        return 0.0
    thirds = np.diff(rows, n=3, axis=0)
    return float(np.sqrt(np.mean(np.sum(thirds**2, axis=-1))) * hz**3)
