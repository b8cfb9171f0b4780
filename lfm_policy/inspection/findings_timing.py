"""Warnings about actions that are out of step with the states they lead to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.ranges import Ranges, flat

LARGEST_LAG = 5
"""Lags of the action behind the state, negative leads, of up to so many steps are tried."""

SLOW_ARM_SECONDS = 0.3
"""A position-controlled arm follows its commands with a delay: 130 to 170 ms are ordinary, and the
action leads the state by as much. That is physics, and no harm: on the robot the same controller
follows the policy. From twice that on it is rather the recording that is wrong."""

FASTEST_RATE = 50
"""Steps per second that are assumed where the rate is not known: what is ordinary at this rate is
not warned of."""

NORMAL_LEAD_STEPS, NORMAL_LEAD_SECONDS = 2, 0.1
"""No controller repeats its commands to the last digit. Where the state does, the rows of one of
the two were moved, or actions made of states; up to the larger of these leads, that is usual."""

MARGIN = 0.7
"""The best lead is clearly better than the ordinary ones when it leaves at most this share of the
variance unexplained that the best of the ordinary ones leaves unexplained. What is unexplained
grows with the square of the distance to the true lead, so that 0.7 is reached 0.55 steps beyond the
ordinary range; noise only raises the share. The human PushT demonstrations lead by 2.4 steps."""

EXACT = 1e-4
"""A state that moves repeats the action where the median difference is below this many standard
deviations."""

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
    action: int
    """The action dimension."""
    key: str
    dimension: int
    of_change: bool
    unexplained: np.ndarray
    """Share of the variance, (leads,), from ``-LARGEST_LAG`` on."""

    @property
    def lead(self) -> int:
        """The best one, in steps."""
        return int(np.argmin(self.unexplained)) - LARGEST_LAG

    def outside(self, last: int) -> bool:
        """Whether the best lead is clearly better than 0 to ``last`` steps."""
        ordinary = self.unexplained[LARGEST_LAG : LARGEST_LAG + last + 1].min()
        return not 0 <= self.lead <= last and self.unexplained.min() <= MARGIN * ordinary

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "action_dimension": self.action,
            "key": self.key,
            "dimension": self.dimension,
            "of": "change" if self.of_change else "value",
            "correlation": self.correlation,
        }


def find_actions_out_of_step(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], *, fps: float | None = None
) -> tuple[list[Finding], str]:
    """Warn of actions that lag behind the states, or lead them by more than a slow arm explains.

    Action dimensions that track an observed dimension are looked at: its value (absolute targets)
    or its change from one step to the next (velocities, relative targets). The lead of the action
    is the k for which ``action[t]`` goes best with ``observation[t + k]``, or with the change from
    ``t + k`` to ``t + k + 1``. What is reported is better by `MARGIN` than what is expected:

    - a negative lead: no command comes after what it causes;
    - a lead beyond `NORMAL_LEAD_SECONDS` after which the state repeats the action exactly;
    - a lead beyond `SLOW_ARM_SECONDS`, if it is one of all dimensions: rows that are moved are so
      in all of them, while one slow joint or gripper moves by itself.

    One finding for all dimensions with the same lead. Switches, which take two values, are passed
    over: when they seem to lead depends on how far what they switch has to go. Values are clipped
    to their 1% to 99% range, so that single outliers do not decide.

    Args:
        buffer: low-dimensional arrays; nothing is found without ``"action"``.
        ranges: their statistics by key.
        fps: steps per second, if known.

    Returns:
        The findings, and what to know of a lead that is ordinary at one rate and too long at
        another, where the rate is not known; ``""`` without one.
    """
    if ACTION_KEY not in buffer.arrays or _inner_count(buffer, LARGEST_LAG) < _FEWEST_STEPS:
        return [], ""
    rate = FASTEST_RATE if fps is None else fps
    last_of_arm = max(NORMAL_LEAD_STEPS, math.ceil(rate * SLOW_ARM_SECONDS))
    last_exact = max(NORMAL_LEAD_STEPS, round((fps or 0) * NORMAL_LEAD_SECONDS))
    steps, most = _inner_steps(buffer, last_of_arm + LARGEST_LAG)
    matches = _best_matches(buffer, ranges, steps, most)
    slowest = min((match.lead for match in matches), default=0)
    late, exact, early = range(3)  # in the order of the findings
    groups: dict[tuple[int, int], list[_Match]] = {}
    for match in matches:
        if match.lead < 0 and match.outside(last_of_arm):
            kind = late
        elif match.lead > last_exact and _is_exact(buffer, ranges, steps, match):
            kind = exact
        elif slowest > last_of_arm and match.outside(last_of_arm):
            kind = early
        else:
            continue
        groups.setdefault((kind, match.lead), []).append(match)

    findings = []
    for (kind, lead), group in sorted(groups.items()):
        count = _steps(abs(lead)) + (" or more" if lead in (-LARGEST_LAG, most) else "")
        if kind == late:
            message = (
                f"the action lags behind the state by {count} ({_pairs(group)}); expected is a "
                f"lead of 0 to {last_exact} steps, as no command comes after what it causes: check "
                f"the timestamps of the recording, or move the actions by about {count} to earlier "
                "rows"
            )
        elif kind == exact:
            message = (
                f"the action leads the state by {_steps(lead)} and is repeated by it to the last "
                f"digit ({_pairs(group)}); expected is a lead of 0 to {last_exact} steps. No "
                "controller is so exact: either the actions were made of later states, or the rows "
                "of one of the two were moved. If that was not meant, move the actions by "
                f"{_steps(lead - 1)} to later rows"
            )
        else:
            seconds = "" if fps is None else f", {lead / fps:.2g} s"
            at = f" at {FASTEST_RATE} per second" if fps is None else ""
            message = (
                f"the action leads the state by {count}{seconds} ({_pairs(group)}); expected is a "
                f"lead of 0 to {last_of_arm} steps ({SLOW_ARM_SECONDS:g} s{at}), which arms take "
                "to follow commands. Either the controller is that slow: then nothing is wrong. Or "
                "the actions were written into earlier rows than those in which they were sent: "
                "then a policy acts too early. Send the robot a single command and see how long it "
                "takes to follow: if much less, check the timestamps of the recording, or move the "
                "actions by the difference to later rows"
            )
        pairs = [match.to_dict() for match in group]
        facts = {"lead": lead, "exact": kind == exact, "pairs": pairs}
        findings.append(Finding("action_timing", message, facts))
    note = ""
    if fps is None and NORMAL_LEAD_STEPS < slowest <= last_of_arm:
        note = (
            f"the action leads the state by {_steps(slowest)} ({_pairs(matches)}): ordinary for an "
            f"arm that follows its commands, from {slowest / SLOW_ARM_SECONDS:.0f} steps per "
            f"second on, where it is less than {SLOW_ARM_SECONDS:g} s; at a lower rate, see "
            "whether the robot is that slow, or the actions were written into earlier rows than "
            "those in which they were sent"
        )
    return findings, note


def _steps(count: int) -> str:
    return f"{count} {'step' if count == 1 else 'steps'}"


def _pairs(matches: list[_Match]) -> str:
    texts = [
        f"{ACTION_KEY}[{match.action}] with {'the change of ' if match.of_change else ''}"
        f"{match.key}[{match.dimension}]"
        for match in matches
    ]
    return listed(texts, 4)


def _inner_steps(buffer: ReplayBuffer, wanted: int) -> tuple[np.ndarray, int]:
    """Return the steps that have all leads within their episode, (n,) int64, and the largest lead.

    Short episodes leave room for a shorter lead than wanted, at least `LARGEST_LAG`.
    """
    most = wanted
    while most > LARGEST_LAG and _inner_count(buffer, most) < _FEWEST_STEPS:
        most -= 1
    spans = [
        np.arange(start + LARGEST_LAG, end - most - 1)
        for start, end in zip(buffer.episode_starts, buffer.episode_ends, strict=True)
    ]
    return np.concatenate(spans), most


def _inner_count(buffer: ReplayBuffer, most: int) -> int:
    return int(np.maximum(buffer.episode_lengths - LARGEST_LAG - most - 1, 0).sum())


def _is_exact(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], steps: np.ndarray, match: _Match
) -> bool:
    """Whether the observed dimension, where it moves, repeats the action after its lead."""
    observed = flat(buffer.arrays[match.key])[:, match.dimension].astype(np.float64)
    rows = steps + match.lead
    change = observed[rows + 1] - observed[rows]
    values = change if match.of_change else observed[rows]
    action = flat(buffer.arrays[ACTION_KEY])[steps, match.action].astype(np.float64)
    # Standing still, every arm is where it should be.
    moving = np.abs(change) > 1e-3 * ranges[match.key].width[match.dimension]
    if moving.sum() < _FEWEST_STEPS // 4:
        return False
    slope, offset = np.polyfit(values[moving], action[moving], 1)
    residual = np.abs(action - slope * values - offset)[moving]
    return bool(np.median(residual) <= EXACT * action[moving].std())


def _best_matches(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], steps: np.ndarray, most_lead: int
) -> list[_Match]:
    """Return the observed dimension that each action dimension goes with best, if it does."""
    best: dict[int, _Match] = {}
    action = flat(buffer.arrays[ACTION_KEY])
    switches = {d for d in range(action.shape[1]) if len(np.unique(action[:, d])) <= 2}
    for key in buffer.arrays:
        if key == ACTION_KEY:
            continue
        width = max(action.shape[1], flat(buffer.arrays[key]).shape[1])
        most = min(_MOST_STEPS, _MOST_ELEMENTS // width)
        thinned = steps[:: -(-len(steps) // most)]
        for of_change, threshold in ((False, TRACKED_VALUE), (True, TRACKED_DIFFERENCE)):
            correlation = _correlations(
                buffer, ranges, key, thinned, most_lead, of_change=of_change
            )
            largest = np.abs(correlation).max(axis=0)
            for d, partner in enumerate(largest.argmax(axis=1).tolist()):
                found = float(largest[d, partner])
                if d in switches or found < threshold:
                    continue
                if d not in best or found > best[d].correlation:
                    unexplained = 1 - correlation[:, d, partner] ** 2
                    best[d] = _Match(found, d, key, partner, of_change, unexplained)
    return list(best.values())


def _correlations(
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    key: str,
    steps: np.ndarray,
    most_lead: int,
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
    for lead in range(-LARGEST_LAG, most_lead + 1):
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
