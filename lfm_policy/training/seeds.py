"""Seeds that depend only on where the training stands, so that it can stop and go on anywhere."""

from __future__ import annotations

import numpy as np


def derived_seed(*parts: int) -> int:
    """Return a 63-bit seed that mixes all parts (non-negative integers) well."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


# First part after the run's seed: what the random numbers are for.
INITIAL_WEIGHTS = 1
BATCH_ORDER = 2
STEP = 3
VALIDATION = 4
