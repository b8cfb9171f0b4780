from __future__ import annotations

from collections.abc import Sequence

import pytest

from lfm_policy.text.samplers import evaluations


@pytest.mark.parametrize(
    ("nfe", "per_block", "times", "text"),
    [
        (16, (5, 5, 6), ((), (), ()), "16"),
        (16, None, ((),), "16"),
        (13.5, None, (), "13.5"),
        (4, (1, 1, 2), (), "4"),
        (4, (1, 1, 2), ((), (), (0.3,)), "4 (1, 1, 2 at 0.3)"),
        (4, (2, 1, 1), ((), (), ()), "4 (2, 1, 1)"),
        (5, (1, 1, 3), ((), (), (0.6, 0.25)), "5 (1, 1, 3 at 0.6/0.25)"),
        (5, (1, 1, 3), (), "5 (1, 1, 3)"),
    ],
)
def test_what_is_not_spread_evenly_is_said(
    nfe: float, per_block: Sequence[int] | None, times: Sequence[Sequence[float]], text: str
) -> None:
    assert evaluations(nfe, per_block, times) == text
