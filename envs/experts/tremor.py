"""How the hand of an expert trembles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def next_tremor(
    before: NDArray[np.float64], generator: np.random.Generator, *, memory: float
) -> NDArray[np.float64]:
    """Return the tremor of the next step: normal noise of variance 1 in the long run.

    Args:
        before: that of the step before, zeros at first.
        generator: draws what is new.
        memory: correlation of one step with the next, 0 to 1.
    """
    fresh = generator.normal(size=before.shape) * np.sqrt(1 - memory**2)
    following: NDArray[np.float64] = memory * before + fresh
    return following
