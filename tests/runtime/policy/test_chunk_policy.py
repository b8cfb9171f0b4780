"""Prefixes as a policy takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfm_runtime.errors import InputError
from lfm_runtime.policy.chunk_policy import padded_prefix
from lfm_runtime.policy.spec import DataSpec

SPEC = DataSpec({}, 2)


def test_a_prefix_is_padded_and_masked() -> None:
    given = np.arange(8.0).reshape(2, 2, 2)
    values, mask = padded_prefix(given, n_rows=2, max_prefix=3, spec=SPEC)
    np.testing.assert_array_equal(values[:, :2], given)
    np.testing.assert_array_equal(values[:, 2], 0)
    np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 1, 0]])
    assert values.dtype == mask.dtype == np.float32


@pytest.mark.parametrize("prefix", [None, np.zeros((2, 0, 2))])
def test_no_prefix_is_one_of_no_actions(prefix: Any) -> None:
    values, mask = padded_prefix(prefix, n_rows=2, max_prefix=3, spec=SPEC)
    assert values.shape == (2, 3, 2)
    assert not mask.any()


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (np.zeros((2, 4, 2)), "4 actions, but the policy was trained with at most 3"),
        (np.zeros((1, 2, 2)), r"shape \(1, 2, 2\)"),
        (np.zeros((2, 2, 3)), r"shape \(2, 2, 3\)"),
        (np.zeros((2, 2)), r"shape \(2, 2\)"),
        (np.full((2, 1, 2), np.nan), "NaN"),
        (np.full((2, 1, 2), 1e300), "NaN or infinity"),
        (np.full((2, 1, 2), "a"), "dtype"),
    ],
)
def test_bad_prefixes_are_refused(prefix: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        padded_prefix(prefix, n_rows=2, max_prefix=3, spec=SPEC)
