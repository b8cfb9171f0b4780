"""What values the dimensions of an array take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lfm_policy.data.outliers import quantiles
from lfm_policy.data.replay_buffer import ReplayBuffer


@dataclass(frozen=True)
class Ranges:
    """Statistics of every dimension over all steps, each (D,) float64 in the unit of the data.

    ``q01`` and ``q99`` are the 1% and 99% quantiles.
    """

    min: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    max: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray) -> Ranges:
        """Return the statistics of an array (T, ...) of numbers; D is the size of a step."""
        columns = flat(array).astype(np.float64)
        q01, q99 = quantiles(columns)
        return cls(
            min=columns.min(axis=0),
            q01=q01,
            q99=q99,
            max=columns.max(axis=0),
            mean=columns.mean(axis=0),
            std=columns.std(axis=0),
        )

    @property
    def width(self) -> np.ndarray:
        """From the 1% to the 99% quantile, (D,) float64."""
        return self.q99 - self.q01

    def to_dict(self) -> dict[str, Any]:
        """Return lists by name."""
        return {part.name: getattr(self, part.name).tolist() for part in fields(self)}


def flat(array: np.ndarray) -> np.ndarray:
    """Return an array (T, ...) as (T, D), without a copy where that is possible."""
    return array.reshape(len(array), -1)


def dimensions(buffer: ReplayBuffer) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield (key, dimension, its values (T,) float64) of all arrays of a buffer."""
    for key, array in buffer.arrays.items():
        columns = flat(array)
        for d in range(columns.shape[1]):
            yield key, d, columns[:, d].astype(np.float64)
