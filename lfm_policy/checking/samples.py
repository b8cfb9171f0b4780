"""What the samples of one observation tell: how far apart they lie, and whether chunks join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_policy.checking.demonstrations import Instants
from lfm_policy.checking.open_loop import ActionScale, nanmean
from lfm_policy.evaluation.chunks import MARGIN


@dataclass(frozen=True)
class Spread:
    """Spread of the samples of one observation, over the executed actions.

    Attributes:
        per_dim: (action_dim,) root mean square of the standard deviation, in the robot's units.
        of_data: (action_dim,) the same over the standard deviation of all demonstrated actions;
            0 for dimensions that never vary.
        share: of the mean square error of one sample, how much is spread, 0 to 1. Were samples
            drawn as the demonstrations are, it would be 1/2; the rest is error of their mean.
        share_per_dim: (action_dim,) the same.
    """

    per_dim: np.ndarray
    of_data: np.ndarray
    share: float
    share_per_dim: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "std_per_dim": self.per_dim.tolist(),
            "std_over_demonstrated_std": self.of_data.tolist(),
            "share_of_square_error": self.share,
            "share_of_square_error_per_dim": self.share_per_dim.tolist(),
        }


def spread_of(samples: np.ndarray, instants: Instants, units: ActionScale) -> Spread:
    """Return the spread of samples (K, M, horizon, action_dim), K at least 2."""
    there = instants.executed
    variance = samples.var(0, ddof=1)[there].mean(0)
    square = np.mean([np.square(x - instants.demonstrated)[there].mean(0) for x in samples], axis=0)
    weights = np.square(units.scale) * units.moving
    moving = units.std > 0
    return Spread(
        per_dim=np.sqrt(variance),
        of_data=np.divide(np.sqrt(variance), units.std, out=np.zeros(len(variance)), where=moving),
        share=_share((variance * weights).sum(), (square * weights).sum()),
        share_per_dim=np.array([_share(v, s) for v, s in zip(variance, square, strict=True)]),
    )


@dataclass(frozen=True)
class Joins:
    """Steps from the last executed action of a chunk to the first of the next one.

    All are mean absolute differences of consecutive actions, at the same places for policy and
    demonstrations: (action_dim,) in the robot's units, and their normalised mean.

    Attributes:
        n: joins, each with as many pairs of samples as there are samples.
        policy: of the policy; both chunks have noise of their own.
        demonstrated: of the demonstrations.
        inside: of the policy, from one executed action to the next inside a chunk.
        scale: (action_dim,), normalised units per unit of the robot.
    """

    n: int
    policy: np.ndarray
    demonstrated: np.ndarray
    inside: np.ndarray
    scale: np.ndarray

    @property
    def ratio(self) -> float:
        """Normalised step of the policy at joins over that of the demonstrations; 0 without any."""
        demonstrated = float((self.demonstrated * self.scale).mean())
        policy = float((self.policy * self.scale).mean())
        return policy / demonstrated if demonstrated > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "joins": self.n,
            "policy_step_per_dim": self.policy.tolist(),
            "demonstrated_step_per_dim": self.demonstrated.tolist(),
            "policy_step_inside_chunks_per_dim": self.inside.tolist(),
            "policy_over_demonstrated": self.ratio,
        }


def joins_of(
    samples: np.ndarray, instants: Instants, units: ActionScale, n_action_steps: int
) -> Joins | None:
    """Return the steps at the joins of samples (K, M, horizon, action_dim); None for no joins."""
    first = instants.obs_steps.shape[1] - 1
    last = first + n_action_steps - 1
    follows = np.flatnonzero(np.diff(instants.episode) == 0) + 1
    if not len(follows):
        return None
    truth = instants.demonstrated
    policy = np.abs(samples[:, follows, first] - samples[:, follows - 1, last]).mean((0, 1))
    demonstrated = np.abs(truth[follows, first] - instants.before[follows]).mean(0)
    inside = np.zeros(truth.shape[2])
    if n_action_steps > 1:
        steps = np.abs(np.diff(samples[:, :, first : last + 1], axis=2)).mean(0)
        inside = nanmean(np.where(instants.executed[:, first + 1 : last + 1, None], steps, np.nan))
        inside = np.nan_to_num(nanmean(inside))
    return Joins(len(follows), policy, demonstrated, inside, units.scale)


def at_ends_of(instants: Instants, units: ActionScale) -> np.ndarray:
    """Return which share of the demonstrated actions stands at an end of the range, (action_dim,).

    Such as those of a gripper that is open or closed, about which samples lie on both sides.
    """
    margin = MARGIN * (units.high - units.low)
    actions = instants.demonstrated[instants.executed]
    at_ends = (actions <= units.low + margin) | (actions >= units.high - margin)
    return np.asarray(at_ends.mean(0))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0
