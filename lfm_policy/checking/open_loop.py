"""Open-loop error: predicted against demonstrated actions, beside what needs no policy.

An error is the mean over the episodes of the mean absolute error within each, so that long
episodes count no more than short ones and intervals are over episodes. Normalised errors are in the
units of the policy's normaliser (for ``limits``, 2 is the whole range of an action).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_policy.checking.demonstrations import Instants
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.windows import WindowIndex
from lfm_policy.evaluation.statistics import Interval, bootstrap_mean, paired_bootstrap
from lfm_runtime.policy.chunk_policy import ChunkPolicy

MAX_WINDOWS = 65_536
"""Windows of which mean and covariance are taken; more would not change them."""


@dataclass(frozen=True)
class ActionScale:
    """Units of the actions, and what demonstrations do with them.

    Attributes:
        scale: (action_dim,), normalised units per unit of the robot.
        offset: (action_dim,): normalised = scale * action + offset.
        low: (action_dim,), smallest action in the demonstrations of the training.
        high: the largest.
        std: (action_dim,), standard deviation of the actions of the reference episodes.
    """

    scale: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray
    std: np.ndarray

    @property
    def moving(self) -> np.ndarray:
        """Which dimensions vary at all in the demonstrations, (action_dim,) bool."""
        return np.asarray(self.high - self.low > 1e-9 * np.maximum(1, np.abs(self.high)))


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors of one way to predict chunks.

    Attributes:
        per_episode: (E,) normalised, of the actions that are executed.
        ahead: (E,) normalised, of all actions of the horizon from the newest observation on.
        per_dim: (action_dim,) in the robot's units, of the executed ones.
        per_step: (steps ahead,) normalised; entry 0 belongs to the newest observation.
        per_step_dim: (steps ahead, action_dim) in the robot's units.
    """

    per_episode: np.ndarray
    ahead: np.ndarray
    per_dim: np.ndarray
    per_step: np.ndarray
    per_step_dim: np.ndarray

    @property
    def mean(self) -> float:
        """Normalised error of the executed actions."""
        return float(self.per_episode.mean())

    @property
    def interval(self) -> Interval:
        """Its bootstrap 95% interval over episodes."""
        return bootstrap_mean(self.per_episode)

    def minus(self, other: Errors) -> tuple[float, Interval]:
        """Return this mean minus another one, with its paired interval over episodes."""
        difference = self.mean - other.mean
        return difference, paired_bootstrap(list(self.per_episode), list(other.per_episode))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; None for steps that no episode has."""
        return {
            "normalized": self.mean,
            "interval": list(self.interval),
            "normalized_over_horizon": float(self.ahead.mean()),
            "per_episode": self.per_episode.tolist(),
            "per_dim": self.per_dim.tolist(),
            "per_step": [_number(x) for x in self.per_step],
            "per_step_dim": [[_number(x) for x in row] for row in self.per_step_dim],
        }


def errors_of(
    absolute: np.ndarray, instants: Instants, units: ActionScale, rows: np.ndarray
) -> Errors:
    """Return the errors of a prediction at some instants.

    Args:
        absolute: (M, horizon, action_dim), absolute errors in the robot's units.
        instants: M of them.
        units: of the actions.
        rows: (M,) bool, the instants that count, at least one.
    """
    first, size = instants.obs_steps.shape[1] - 1, absolute.shape[2]
    episode = instants.episode
    groups = [np.flatnonzero((episode == e) & rows) for e in np.unique(episode[rows])]
    executed = np.where(instants.executed[..., None], absolute, np.nan)
    ahead = np.where(instants.there[..., None], absolute, np.nan)
    # Of every episode, (E, action_dim) and (E, horizon, action_dim).
    per_dim = np.stack([nanmean(executed[group].reshape(-1, size)) for group in groups])
    per_dim_ahead = np.stack([nanmean(ahead[group].reshape(-1, size)) for group in groups])
    per_step = nanmean(np.stack([nanmean(ahead[group]) for group in groups]))[first:]
    return Errors(
        per_episode=(per_dim * units.scale).mean(1),
        ahead=(per_dim_ahead * units.scale).mean(1),
        per_dim=per_dim.mean(0),
        per_step=(per_step * units.scale).mean(1),
        per_step_dim=per_step,
    )


def baselines(
    instants: Instants, units: ActionScale, mean_chunk: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what predicts without looking, by name, each (M, horizon, action_dim).

    ``repeat``: the last demonstrated action, again and again (NaN where there is none);
    ``mean``: the mean chunk of the reference episodes; ``zero``: no action at all, where all
    dimensions have zero inside their demonstrated range: to keep still, if actions are deltas or
    velocities.
    """
    shape = instants.demonstrated.shape
    found = {
        "repeat": np.broadcast_to(instants.before[:, None], shape),
        "mean": np.broadcast_to(mean_chunk, shape),
    }
    if ((units.low <= 0) & (units.high >= 0)).all():
        found["zero"] = np.zeros(shape)
    return found


def reference_chunks(buffer: ReplayBuffer, episodes: np.ndarray, policy: ChunkPolicy) -> np.ndarray:
    """Return chunks (n, horizon, action_dim) float64 of all training windows of some episodes.

    At most `MAX_WINDOWS`, evenly chosen.
    """
    horizons = policy.n_obs_steps, policy.horizon, policy.n_action_steps
    index = WindowIndex(buffer.episode_ends, *horizons, episodes=episodes, source=buffer.source)
    rows = np.linspace(0, len(index) - 1, min(len(index), MAX_WINDOWS)).astype(np.int64)
    action = np.asarray(buffer.arrays[ACTION_KEY], dtype=np.float64)
    return np.asarray(action[index.indices.numpy()[rows]])


@dataclass(frozen=True)
class OpenLoop:
    """Errors of the policy and of the baselines on the same actions.

    Attributes:
        n_samples: chunks of every instant.
        n_instants: instants that are compared; those with an action before them.
        sample: of one sample, on average.
        mean_of_samples: of the mean of all samples.
        best_of_samples: of that sample of every instant that is nearest to what was demonstrated.
        baselines: of what needs no policy, by name.
        training: of one sample in episodes of the training; None where none are known.
    """

    n_samples: int
    n_instants: int
    sample: Errors
    mean_of_samples: Errors
    best_of_samples: Errors
    baselines: Mapping[str, Errors]
    training: Errors | None

    @property
    def strongest(self) -> str:
        """Name of the baseline with the smallest error."""
        return min(self.baselines, key=lambda name: self.baselines[name].mean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        ways = {
            "sample": self.sample,
            "mean_of_samples": self.mean_of_samples,
            "best_of_samples": self.best_of_samples,
            **{f"baseline_{name}": errors for name, errors in self.baselines.items()},
        }
        differences = {}
        for name, errors in self.baselines.items():
            difference, interval = self.sample.minus(errors)
            differences[name] = {"difference": difference, "interval": list(interval)}
        return {
            "samples": self.n_samples,
            "instants": self.n_instants,
            "errors": {name: errors.to_dict() for name, errors in ways.items()},
            "training": None if self.training is None else self.training.to_dict(),
            "sample_minus_baseline": differences,
            "strongest_baseline": self.strongest,
        }


def open_loop(
    samples: np.ndarray, instants: Instants, units: ActionScale, mean_chunk: np.ndarray
) -> OpenLoop:
    """Compare samples and baselines with the demonstrations.

    Args:
        samples: (K, M, horizon, action_dim) as they would be executed.
        instants: M of them.
        units: of the actions.
        mean_chunk: (horizon, action_dim), of the reference episodes.
    """
    # Where no instant has an action before it, there is nothing to repeat.
    rows = instants.started if instants.started.any() else np.ones(len(instants), bool)
    truth = instants.demonstrated
    one = np.zeros(truth.shape)
    nearest, least = np.empty(truth.shape), np.full(len(truth), np.inf)
    for sample in samples:
        error = np.abs(sample - truth)
        one += error / len(samples)
        size = np.where(instants.executed[..., None], error * units.scale, 0).sum((1, 2))
        nearer = size < least
        nearest[nearer], least[nearer] = error[nearer], size[nearer]
    known = baselines(instants, units, mean_chunk)
    if not instants.started.any():
        del known["repeat"]

    def errors(absolute: np.ndarray) -> Errors:
        return errors_of(absolute, instants, units, rows)

    return OpenLoop(
        n_samples=len(samples),
        n_instants=int(rows.sum()),
        sample=errors(one),
        mean_of_samples=errors(np.abs(samples.mean(0) - truth)),
        best_of_samples=errors(nearest),
        baselines={name: errors(np.abs(chunks - truth)) for name, chunks in known.items()},
        training=None,
    )


def nanmean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is there, NaN where nothing is."""
    count = np.isfinite(values).sum(0)
    total = np.nansum(values, axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
