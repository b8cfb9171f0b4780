"""Rules: lengths of chunks, split, normalisation, what is no observation."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_policy.proposal.choices import (
    lengths_for,
    network_for,
    normalization_for,
    validation_for,
)
from lfm_policy.proposal.text import comment, scalar

LONG = np.full(50, 300)


@pytest.mark.parametrize(
    ("fps", "horizon"),
    [(None, 16), (1, 4), (5, 8), (10, 16), (20, 16), (25, 28), (30, 32), (50, 52), (200, 64)],
)
def test_chunks_follow_the_rate(fps: float | None, horizon: int) -> None:
    lengths = lengths_for(fps, LONG)
    assert (lengths.horizon, lengths.n_action_steps) == (horizon, horizon // 2)
    assert ("assumed" in lengths.reason) == (fps is None)


def test_chunks_are_bounded_by_short_episodes() -> None:
    lengths = lengths_for(30, np.array([21, 22, 80, 90, 300]))
    assert lengths.horizon == 20 and "short episodes (21 steps)" in lengths.reason
    assert lengths_for(30, np.array([2, 3])).horizon == 4
    one_of_many = np.array([5, *[100] * 50])
    assert lengths_for(10, one_of_many).horizon == 16


@pytest.mark.parametrize(
    ("episodes", "ratio"), [(1, 0.0), (4, 0.0), (5, 0.1), (206, 0.05), (3000, 0.02)]
)
def test_few_episodes_all_train(episodes: int, ratio: float) -> None:
    lengths = np.full(episodes, 40)
    assert validation_for(lengths, lengths_for(10, lengths))[0] == ratio


def test_outliers_ask_for_quantiles() -> None:
    values = np.random.default_rng(0).normal(size=(500, 2))
    far = values.copy()
    far[7, 1] = 1000
    assert normalization_for({"a": values, "b": far}) == {"b": "quantiles"}


def test_two_arms_get_more_network() -> None:
    assert network_for(20_000, 16, 7).options["width"] == 192
    assert network_for(20_000, 16, 14).options["width"] == 384
    assert network_for(20_000, 16, 7, direct=True).options["channels"] == [48, 96]
    assert network_for(20_000, 16, 14, direct=True).options["channels"] == [88, 184]


@pytest.mark.parametrize("text", ["a: b", "#x", "yes", "1e3", "[a", "ä ü", "a\nb", "null", "x'\""])
def test_any_text_is_read_back(text: str) -> None:
    import yaml

    assert yaml.safe_load(f"key: {scalar(text)}  # why") == {"key": text}


def test_comments_are_comments() -> None:
    lines = comment("a warning\nof two lines: " + "word " * 60)
    assert all(line.startswith("# ") and len(line) <= 100 for line in lines)
