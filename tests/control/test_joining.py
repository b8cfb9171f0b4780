"""Chunks that overlap: closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_runtime.control.planning.chunk import Chunk
from lfm_runtime.control.planning.joining import Ensemble, Replace, create_joining
from lfm_runtime.errors import InputError


def chunk(number: int, start: int, *values: float, observed_at: float = 0.0) -> Chunk:
    return Chunk(number, start, np.array(values, dtype=np.float32)[:, None], observed_at)


def test_the_newest_chunk_replaces_the_others() -> None:
    joining = Replace()
    assert joining.action(0) is None
    joining.add(chunk(0, 0, 0, 1, 2, 3))
    joining.add(chunk(1, 2, 20, 30))
    assert [joining.action(step) for step in (1, 2, 3, 4)] == [None, [20], [30], None]


def test_the_ensemble_is_the_weighted_mean_with_the_oldest_first() -> None:
    joining = Ensemble(decay=0.5)
    joining.add(chunk(0, 0, 0, 1, 2, 3))
    joining.add(chunk(1, 1, 10, 20, 30))
    joining.add(chunk(2, 2, 200, 300))
    weights = np.exp(-0.5 * np.arange(3))
    expected = weights @ [2, 20, 200] / weights.sum()
    assert joining.action(2) == pytest.approx(expected)
    assert joining.action(3) == pytest.approx(weights @ [3, 30, 300] / weights.sum())


@pytest.mark.parametrize(
    ("decay", "expected"),
    [(50.0, 1.0), (-50.0, 10.0), (0.0, 5.5), (-1e3, 10.0), (1e308, 1.0), (-1e308, 10.0)],
)
def test_the_decay_chooses_between_old_and_new(decay: float, expected: float) -> None:
    joining = Ensemble(decay)
    joining.add(chunk(0, 0, 1, 1))
    joining.add(chunk(1, 0, 10, 10))
    assert joining.action(1) == pytest.approx(expected)


def test_chunks_of_the_past_are_dropped() -> None:
    joining = Ensemble(0.0)
    joining.add(chunk(0, 0, 100, 100))
    joining.add(chunk(1, 2, 1, 1))
    assert joining.action(2) == [1]
    assert joining.action(0) is None


@pytest.mark.parametrize("name", ["replace", "ensemble", "prefix"])
def test_chunks_on_old_observations_are_forgotten(name: str) -> None:
    joining = create_joining(name)
    joining.add(chunk(0, 0, 1, 1, observed_at=1.0))
    joining.forget(observed_before=1.0)
    assert joining.newest is not None
    joining.forget(observed_before=1.1)
    assert joining.newest is None
    assert joining.action(0) is None


def test_what_is_upcoming_ends_with_the_chunk() -> None:
    joining = Replace()
    joining.add(chunk(0, 5, 0, 1, 2))
    assert joining.upcoming(6, 5) == [[1], [2]]
    assert joining.upcoming(8, 5) == []


def test_unknown_names_and_decays_are_refused() -> None:
    with pytest.raises(InputError, match="known: replace, ensemble, prefix"):
        create_joining("average")
    with pytest.raises(InputError, match="finite"):
        create_joining("ensemble", ensemble_decay=np.nan)
