"""Warnings about actions that are out of step with the states they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.ranges import Ranges, flat

LARGEST_LEAD = 5
"""Leads of -5 to +5 steps of the action over the state are tried."""

NORMAL_LEAD_STEPS, NORMAL_LEAD_SECONDS = 2, 0.1
"""A lead of 0 to this many steps is normal, or of this time where the rate is known and it is
more: slow controllers at 50 Hz need some steps."""

MARGIN = 0.7
"""The best lead is clearly better than the normal ones when it leaves at most this share of the
variance unexplained that the best of the normal ones leaves unexplained. What is unexplained grows
with the square of the distance to the true lead, so that 0.7 is reached 0.55 steps beyond the
normal range; noise only raises the share. The human PushT demonstrations lead by 2.4 steps."""

TRACKED_VALUE, TRACKED_DIFFERENCE = 0.9, 0.7
"""An action tracks an observation where the correlation with its value, or with its change to the
next step, is at least this. Changes are noisier."""

_FEWEST_STEPS = 200
_MOST_STEPS, _MOST_ELEMENTS = 50_000, 10_000_000
"""Of longer data, every n-th step is compared: seconds matter more than the third digit."""


@dataclass(frozen=True)
class _Match:
    """How well one action dimension goes with one observed dimension, lead by lead."""

    correlation: float
    """The largest, over all leads."""
    key: str
    dimension: int
    of_change: bool
    unexplained: np.ndarray
    """Share of the variance, (leads,), from ``-LARGEST_LEAD`` on."""


def find_actions_out_of_step(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], *, fps: float | None = None
) -> list[Finding]:
    """Warn of actions that lag behind the states, or lead them by too much.

    Action dimensions that track an observed dimension are looked at: its value (absolute targets)
    or its change from one step to the next (velocities, relative targets). The lead of the action
    is the k for which ``action[t]`` goes best with ``observation[t + k]``, or with the change from
    ``t + k`` to ``t + k + 1``. Expected is 0 to 2 steps (see `NORMAL_LEAD_SECONDS`); another lead
    is reported when it is better by `MARGIN`. One finding for all dimensions with the same lead.
    Values are clipped to their 1% to 99% range, so that single outliers do not decide.

    Args:
        buffer: low-dimensional arrays; nothing is found without ``"action"``.
        ranges: their statistics by key.
        fps: steps per second, if known.
    """
    if ACTION_KEY not in buffer.arrays:
        return []
    steps = _inner_steps(buffer)
    if len(steps) < _FEWEST_STEPS:
        return []
    last_normal = NORMAL_LEAD_STEPS
    if fps is not None:
        last_normal = min(max(last_normal, round(fps * NORMAL_LEAD_SECONDS)), LARGEST_LEAD)

    best = _best_matches(buffer, ranges, steps)
    by_lead: dict[int, list[tuple[int, _Match]]] = {}
    for dimension, match in best.items():
        lead = int(np.argmin(match.unexplained)) - LARGEST_LEAD
        normal = match.unexplained[LARGEST_LEAD : LARGEST_LEAD + last_normal + 1].min()
        if not 0 <= lead <= last_normal and match.unexplained.min() <= MARGIN * normal:
            by_lead.setdefault(lead, []).append((dimension, match))
    return [_finding(lead, matches, last_normal) for lead, matches in sorted(by_lead.items())]


def _finding(lead: int, matches: list[tuple[int, _Match]], last_normal: int) -> Finding:
    pairs = [
        f"{ACTION_KEY}[{dimension}] with {'the change of ' if match.of_change else ''}"
        f"{match.key}[{match.dimension}]"
        for dimension, match in matches
    ]
    count = f"{abs(lead)} {'step' if abs(lead) == 1 else 'steps'}"
    if abs(lead) == LARGEST_LEAD:
        count += " or more"
    expected = f"expected is a lead of 0 to {last_normal} steps"
    what = f"lags behind the state by {count}" if lead < 0 else f"leads the state by {count}"
    moved = f"{count} to {'earlier' if lead < 0 else 'later'} rows"
    return Finding(
        "action_timing",
        f"the action {what} ({listed(pairs, 4)}); {expected}: check the timestamps of the "
        f"recording, or move the actions by about {moved}",
        {
            "lead": lead,
            "pairs": [
                {
                    "action_dimension": dimension,
                    "key": match.key,
                    "dimension": match.dimension,
                    "of": "change" if match.of_change else "value",
                    "correlation": match.correlation,
                }
                for dimension, match in matches
            ],
        },
    )


def _inner_steps(buffer: ReplayBuffer) -> np.ndarray:
    """Return the steps that have all leads within their episode, (n,) int64."""
    spans = [
        np.arange(start + LARGEST_LEAD, end - LARGEST_LEAD - 1)
        for start, end in zip(buffer.episode_starts, buffer.episode_ends, strict=True)
    ]
    return np.concatenate(spans)


def _best_matches(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], steps: np.ndarray
) -> dict[int, _Match]:
    """Return the observed dimension that each action dimension goes with best, if it does."""
    best: dict[int, _Match] = {}
    for key in buffer.arrays:
        if key == ACTION_KEY:
            continue
        width = max(flat(buffer.arrays[name]).shape[1] for name in (ACTION_KEY, key))
        most = min(_MOST_STEPS, _MOST_ELEMENTS // width)
        thinned = steps[:: -(-len(steps) // most)]
        for of_change in (False, True):
            threshold = TRACKED_DIFFERENCE if of_change else TRACKED_VALUE
            correlation = _correlations(buffer, ranges, key, thinned, of_change=of_change)
            largest = np.abs(correlation).max(axis=0)
            for dimension, partner in enumerate(largest.argmax(axis=1)):
                found = float(largest[dimension, partner])
                known = best.get(dimension)
                if found >= threshold and (known is None or found > known.correlation):
                    unexplained = 1 - correlation[:, dimension, partner] ** 2
                    best[dimension] = _Match(found, key, int(partner), of_change, unexplained)
    return best


def _correlations(
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    key: str,
    steps: np.ndarray,
    *,
    of_change: bool,
) -> np.ndarray:
    """Return the correlation of ``action[t]`` with ``key[t + k]``, (leads, actions, dimensions).

    With ``of_change``, with the change from ``key[t + k]`` to ``key[t + k + 1]``.
    """

    def clipped(name: str, rows: np.ndarray) -> np.ndarray:
        stats = ranges[name]
        return np.clip(flat(buffer.arrays[name])[rows], stats.q01, stats.q99)

    action = _standardised(clipped(ACTION_KEY, steps))
    correlations = []
    limits = None
    for lead in range(-LARGEST_LEAD, LARGEST_LEAD + 1):
        values = clipped(key, steps + lead)
        if of_change:
            values = clipped(key, steps + lead + 1) - values
            if limits is None:  # nearly the same for all leads
                limits = np.quantile(values, [0.01, 0.99], axis=0)
            values = np.clip(values, *limits)
        correlations.append(action.T @ _standardised(values) / len(steps))
    return np.stack(correlations)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and standard deviation 1; constant columns become 0."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 1e-9 * np.abs(values).max(axis=0, initial=0), spread, np.inf)
