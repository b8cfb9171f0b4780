"""Chunks that leave a range by a known amount."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_policy.evaluation.chunks import outside_of

LOW, HIGH = np.array([0.0, -2.0]), np.array([40.0, 2.0])


def chunks_inside(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(LOW, HIGH, (n, 5, 2))


def test_share_of_chunks_and_of_actions() -> None:
    chunks = chunks_inside(100)
    chunks[:30, 1, 0] = 44.0  # by a tenth of the range
    chunks[:10, 2, 1] = -3.0  # by a quarter
    chunks[90:, :, 0] = 40.3  # by less than a hundredth
    found = outside_of(chunks, LOW, HIGH)
    assert found.chunks == pytest.approx(0.3) and found.n_chunks == 100
    assert found.per_dim == pytest.approx([30 / 500, 10 / 500])
    assert found.most == pytest.approx(0.25)
    assert outside_of(chunks[10:90], LOW, HIGH).most == pytest.approx(0.1)
    assert outside_of(chunks_inside(10), LOW, HIGH).most == 0


def test_what_is_not_executed_does_not_count() -> None:
    chunks = np.stack([chunks_inside(4)] * 3)
    chunks[:, :, 4] = 100.0
    executed = np.ones((4, 5), bool)
    executed[:, 4] = False
    assert outside_of(chunks, LOW, HIGH, executed=executed).chunks == 0
    executed[1, 4] = True
    executed[3] = False  # nothing of it: no chunk at all
    found = outside_of(chunks, LOW, HIGH, executed=executed)
    assert found.chunks == pytest.approx(1 / 3) and found.n_chunks == 9
    assert found.per_dim == pytest.approx([1 / 13, 1 / 13])


def test_a_dimension_that_never_moved_cannot_be_left() -> None:
    still = np.array([40.0, -2.0])
    found = outside_of(chunks_inside(10), LOW, still)
    assert found.chunks == 0 and found.most == 0 and found.per_dim.tolist() == [0, 0]
