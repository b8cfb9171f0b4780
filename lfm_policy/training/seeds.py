"""Seeds that depend only on where the training stands, so that it can stop and go on anywhere."""

from __future__ import annotations

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """Return a 63-bit seed that mixes all parts (non-negative integers) well."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators that work on ``device`` draws from."""
    # torch.manual_seed prepares every other kind of device too, which takes 0.2 ms.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


# First part after the run's seed: what the random numbers are for.
INITIAL_WEIGHTS = 1
BATCH_ORDER = 2
STEP = 3
VALIDATION = 4
TEACHER_NOISE = 6
TEACHER_OBS = 7
PREFIX_LENGTHS = 9
LATER_PASS = 10
AUXILIARY_WEIGHTS = 11
