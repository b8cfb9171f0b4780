"""Whether samples of one observation keep both ways, where there are two.

Where demonstrations go left or right around an obstacle, the mean of both goes through it. What
there are ways of is said by a *reference*: samples of one observation, of a policy that follows its
velocity in many steps from full noise. Other samples of the same observation are then sorted by the
reference's two ways.

It tells whether a policy of few steps has lost, or blurred, what the reference does. It does not
tell what demonstrators would do: the reference is a policy as well. Two ways may be two directions,
or now and later. Of three ways the two that differ most are told apart, or none. Ways of a policy
that the reference does not have are not counted, and a policy that starts from less noise on
purpose keeps fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SEPARATED = 5.0
"""Distance of the means of two groups, in standard deviations inside them, from which they are two
ways. Cut in half, a normal distribution has 2 / sqrt(pi / 2 - 1) = 2.65, a uniform one
2 sqrt(3) = 3.46; two equally frequent normal distributions d deviations apart have about d."""

LEAST = 0.1
"""Share of the reference's samples that the rarer way needs at least."""

KEPT = 0.05
"""Share of a policy's samples in the rarer way from which it keeps both."""


@dataclass(frozen=True)
class TwoWays:
    """Two groups of the samples of one observation, along the line on which they differ most.

    Attributes:
        axis: (F,), unit length.
        means: of both groups along it, the smaller first.
        separation: distance of the means over the standard deviation inside the groups.
        rarer: share of the samples in the smaller group.
    """

    axis: np.ndarray
    means: tuple[float, float]
    separation: float
    rarer: float

    @property
    def apart(self) -> bool:
        """Whether these are two ways, and not two halves of one."""
        return self.separation >= SEPARATED and self.rarer >= LEAST

    def shares(self, samples: np.ndarray) -> tuple[float, float, float]:
        """Return the share of some samples (K, F) that goes the first way, the second, and between.

        Between is the middle third of the way from one mean to the other: neither.
        """
        place = (samples @ self.axis - self.means[0]) / (self.means[1] - self.means[0])
        first, second = float(np.mean(place < 1 / 3)), float(np.mean(place > 2 / 3))
        return first, second, 1 - first - second


def two_ways(samples: np.ndarray) -> TwoWays | None:
    """Return the two groups of samples (K, F); None where all are the same.

    They are those of 2-means along the principal axis, for which the best cut is found exactly.
    """
    centre = samples.mean(0)
    _, sizes, axes = np.linalg.svd(samples - centre, full_matrices=False)
    n = len(samples)
    if n < 2 or sizes[0] <= 1e-9 * max(1.0, float(np.abs(samples).max())):
        return None
    axis = axes[0]
    place = np.sort(samples @ axis)
    count = np.arange(1, n)
    below = np.cumsum(place)[:-1]
    means = np.stack([below / count, (place.sum() - below) / (n - count)])
    # What lies between the groups is the variance that a cut explains.
    between = count * (n - count) / n**2 * np.square(means[1] - means[0])
    cut = int(np.argmax(between))
    low, high = means[:, cut]
    inside = max(float(place.var() - between[cut]), 0.0)
    distance = float(high - low)
    separation = distance / np.sqrt(inside) if inside > 1e-12 * distance**2 else np.inf
    rarer = min(cut + 1, n - cut - 1) / n
    return TwoWays(axis, (float(low), float(high)), float(separation), rarer)


@dataclass(frozen=True)
class Kept:
    """What becomes of two ways, on average over the instants that have them.

    Attributes:
        n_two_ways: instants at which the reference goes two ways.
        n_instants: instants.
        kept: share of the former at which the policy goes both ways, in `KEPT` of its samples.
        rarer: share of its samples in that way of the two in which it has fewer.
        between: share of its samples in neither.
    """

    n_two_ways: int
    n_instants: int
    kept: float
    rarer: float
    between: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return vars(self).copy()


def kept_ways(samples: np.ndarray, ways: Sequence[TwoWays | None]) -> Kept:
    """Return whether samples keep both ways of a reference.

    Args:
        samples: (K, M, F) of a policy, F the numbers of a chunk, in units in which dimensions are
            comparable.
        ways: M of them, those of the reference. To see what is attainable, ask the reference itself
            for samples of other noise.
    """
    found = []
    for at, way in enumerate(ways):
        if way is not None and way.apart:
            first, second, between = way.shares(samples[:, at])
            rarer = min(first, second)
            found.append((rarer >= KEPT, rarer, between))
    kept, rarer, between = np.mean(found, axis=0).tolist() if found else (0.0, 0.0, 0.0)
    return Kept(len(found), len(ways), kept, rarer, between)


def relative_spread(samples: np.ndarray, reference: np.ndarray) -> float:
    """Return how far apart samples of one observation lie, over those of a reference.

    Both are (K, M, F): the root of the variance, its mean over M instants. 0 where the reference
    has no spread.
    """
    variance, whole = (float(x.var(0, ddof=1).mean()) for x in (samples, reference))
    return float(np.sqrt(variance / whole)) if whole > 0 else 0.0
