"""Outcomes of controlled episodes as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lfm_policy.control.episodes import EpisodeOutcome
from lfm_policy.control.recording import RecordedEpisode
from lfm_policy.text.numbers import rounded
from lfm_policy.text.tables import TextTable

_SUCCESS = {True: "yes", False: "no", None: "-"}


def outcomes_to_dict(outcomes: Sequence[EpisodeOutcome]) -> list[dict[str, Any]]:
    """Return plain JSON values; ``steps`` are the environment's or robot's, as in the table.

    ``planned`` are the actions of chunks that were given; the last may not have moved anything yet.
    """
    return [
        {"planned": outcome.control.steps}
        | outcome.control.to_dict()
        | {key: value for key, value in vars(outcome).items() if key != "control"}
        for outcome in outcomes
    ]


_KEPT = 0.98
"""Part of the rate from which on it counts as kept."""


def outcomes_table(
    title: str, outcomes: Sequence[EpisodeOutcome], *, hz: float, of_robot: bool = False
) -> None:
    """Print one row per episode; ``delay`` is in executed actions, the largest of any chunk.

    Args:
        title: above the table.
        outcomes: of the episodes.
        hz: ticks per second that were asked for.
        of_robot: whether a robot was run, and no environment.
    """
    headers = ("seed", "ended", "success", "reward", "steps", "chunks", "delay", "ms")
    table = TextTable(*headers, "missed", "held", "late", title=title, words=["ended"])
    for outcome in outcomes:
        control = outcome.control
        delays, seconds = control.delays, control.seconds
        table.add_row(
            str(outcome.seed),
            control.reason,
            _SUCCESS[outcome.success],
            rounded(outcome.max_reward),
            str(outcome.steps),
            str(len(delays)),
            str(max(delays, default="-")),
            f"{1e3 * float(np.median(seconds)):.3g}" if seconds else "-",
            str(control.deadline_misses),
            str(control.held),
            str(control.late_ticks),
        )
    table.print()
    if any(outcome.success is not None for outcome in outcomes):
        print(f"success: {sum(bool(outcome.success) for outcome in outcomes)} of {len(outcomes)}")
    elif of_robot:
        print("success: - (the robot has no attribute success, or it is None)")
    else:
        print("success: - (info['success'] and info['is_success'] of the environment say nothing)")
    counts = {
        "limited actions": sum(outcome.control.limited for outcome in outcomes),
        "bad observations": sum(outcome.control.bad_observations for outcome in outcomes),
        "failed calls": sum(outcome.control.failed_calls for outcome in outcomes),
        "policy changes": sum(outcome.control.policy_changes for outcome in outcomes),
    }
    print(", ".join(f"{what}: {count}" for what, count in counts.items()))
    if rates := [outcome.control.rate for outcome in outcomes if outcome.control.rate]:
        print(f"ticks per second: {min(rates):.4g}, asked for: {hz:g}" + _slow(min(rates) / hz))


def _slow(kept: float) -> str:
    if kept >= _KEPT:
        return ""
    return (
        "; the rate was not kept: observing and acting take longer than a tick (cameras that are "
        "waited for?), and the policy moves slower than it was taught"
    )


_RECORDING_HEADERS = {
    "episode": "run",
    "actions": "actions",
    "seconds": "s",
    "chunks": "chunks",
    "deadline_misses": "missed",
    "held": "held",
    "continued": "late",
    "limited": "limited",
    "bad_observations": "bad obs",
    "failed": "failed",
    "latency_ms_median": "ms",
    "latency_ms_max": "max ms",
    "consumed_max": "delay",
}


def recording_table(title: str, episodes: Sequence[RecordedEpisode]) -> None:
    """Print one row per recorded run; ``delay`` is in executed actions, the largest."""
    table = TextTable(*_RECORDING_HEADERS.values(), title=title)
    for episode in episodes:
        row = episode.summary()
        table.add_row(*(_text(row[name]) for name in _RECORDING_HEADERS))
    table.print()


def _text(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
