"""What became of a run of the control loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

PLANNED, HELD, CONTINUED, APPROACHED = 0, 1, 2, 3
"""Kinds of executed actions: planned in time; standing still; rest of a chunk past its deadline; on
the first move."""


@dataclass(frozen=True)
class StepRecord:
    """One executed action.

    Attributes:
        time: when the robot was told, seconds since the run began.
        observed: when the observation of the tick was made, in the same way.
        action: (action_dim,), after all limits.
        obs: the newest good observation, and what is only recorded beside it.
        kind: `PLANNED`, `HELD`, `CONTINUED` or `APPROACHED`.
        step: the step that it is for: how many planned actions had been executed before.
        chunk: number of the newest chunk, -1 without any.
        limited: whether a limit changed the action.
        obs_valid: whether the observation is of this tick; else that of the last good one.
        failed: whether the robot's ``act`` raised; what it did with the action is not known.
    """

    time: float
    observed: float
    action: np.ndarray
    obs: Mapping[str, np.ndarray]
    kind: int
    step: int
    chunk: int
    limited: bool
    obs_valid: bool
    failed: bool = False


@dataclass(frozen=True)
class ChunkRecord:
    """One answer of the policy.

    Attributes:
        number: of its request.
        start: step that its first action is for.
        consumed: planned actions that were executed while it was computed: its delay in steps.
        asked_at: seconds since the run began.
        answered_at: in the same way.
        taken_at: when the loop took it, in the same way.
        prefix: how many committed actions the policy was given.
        actions: (n, action_dim).
    """

    number: int
    start: int
    consumed: int
    asked_at: float
    answered_at: float
    taken_at: float
    prefix: int
    actions: np.ndarray

    @property
    def length(self) -> int:
        """Actions of the chunk."""
        return len(self.actions)


@dataclass
class ControlResult:
    """Counts of a run; ``reason`` says why it ended.

    Attributes:
        reason: why it ended: ``done``, ``max_ticks``, ``deadline``, ``bad observations``,
            ``policy changed``, ``robot hung`` (a watchdog stopped it; likewise ``recorder hung``
            and ``inference hung``) or the name of a signal.
        ticks: periods that passed.
        steps: planned actions executed.
        waiting: ticks before the first action, the robot standing still.
        approached: ticks of the first move, and until the first chunk after it.
        deadline_misses: times that a chunk was not there in time.
        held: ticks in which the robot stood still because of that.
        continued: actions of old chunks executed past their deadline.
        bad_observations: ticks without a complete and finite observation.
        failed_calls: requests that failed for a while only, such as those to a server that is
            down.
        policy_changes: how often the server was found to serve another policy.
        limited: actions that a limit changed.
        late_ticks: ticks that began late because the one before took too long.
        rate: ticks per second that the run kept; 0 where there were not two. Below that of the
            loop, the robot is too slow: a tick lasts as long as `observe` and `act` do.
        delays: actions consumed while each chunk was computed.
        seconds: how long each chunk took, from the question to the answer.
    """

    reason: str = ""
    ticks: int = 0
    steps: int = 0
    waiting: int = 0
    approached: int = 0
    deadline_misses: int = 0
    held: int = 0
    continued: int = 0
    bad_observations: int = 0
    failed_calls: int = 0
    policy_changes: int = 0
    limited: int = 0
    late_ticks: int = 0
    rate: float = 0.0
    delays: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; of the lists, their number, median and largest value."""
        values = asdict(self)
        for name in ("delays", "seconds"):
            numbers = values.pop(name)
            values[name] = {
                "count": len(numbers),
                "median": float(np.median(numbers)) if numbers else None,
                "max": float(max(numbers)) if numbers else None,
            }
        return values
