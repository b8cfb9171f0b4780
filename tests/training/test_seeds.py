from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.training.seeds import (
    BATCH_ORDER,
    INITIAL_WEIGHTS,
    STEP,
    VALIDATION,
    derived_seed,
    seed_generators,
)

PARTS = st.lists(st.integers(0, 2**62), min_size=1, max_size=6)


@given(PARTS)
def test_a_seed_is_the_same_every_time_and_fits_torch(parts: list[int]) -> None:
    seed = derived_seed(*parts)
    assert seed == derived_seed(*parts)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


def test_every_part_and_its_place_matters() -> None:
    seeds = {derived_seed(run, use, n) for run in range(5) for use in range(5) for n in range(5)}
    assert len(seeds) == 5**3


def test_each_use_has_its_own_number() -> None:
    assert len({INITIAL_WEIGHTS, BATCH_ORDER, STEP, VALIDATION}) == 4


def test_seeding_does_what_torch_does() -> None:
    torch.manual_seed(11)
    expected = torch.randn(3), torch.randint(100, (3,))
    seed_generators(11, torch.device("cpu"))
    assert torch.equal(torch.randn(3), expected[0])
    assert torch.equal(torch.randint(100, (3,)), expected[1])
