"""Options of the control loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lfm_runtime.control.planning.joining import JOININGS
from lfm_runtime.errors import InputError

ON_MISS = ("hold", "continue", "stop")
"""What may be done when the next chunk is not there in time."""

ON_POLICY_CHANGE = ("stop", "hold")
"""What may be done when the server of the policy serves another one."""


@dataclass(frozen=True)
class ControlOptions:
    """How chunks are asked for, joined and made safe.

    Of each chunk, ``execute`` actions are executed, and the next one is asked for ``lead`` actions
    before they end::

        step        s                            s + execute
        executed    |----------------------------|           rest of the chunk
        asked for   x              s + execute - lead: the next one

    The next chunk must be there when they have been executed: that is the deadline. With a lead
    of 0 the robot stands still while the policy computes. For a policy that takes d periods per
    chunk (rounded up) and a robot that never waits, choose lead >= d and execute >= 2 d: one chunk
    is computed at a time, and of each the first d actions are over when it comes.

    Attributes:
        joining: ``replace``, ``ensemble`` or ``prefix``, see
            `lfm_runtime.control.planning.joining`.
        execute: actions executed of each chunk; None: the policy's n_action_steps.
        lead: see above; None: 0, or for ``ensemble`` execute - 1, which asks at every step.
        on_miss: when a deadline is missed: ``hold`` stands still until the chunk comes,
            ``continue`` goes on with the rest of the old chunk and then holds, ``stop`` ends the
            run.
        patience: part of a period that a tick waits for a chunk without which it would miss the
            deadline.
        max_staleness: seconds; no action is executed whose observation is older. None: twice the
            time that a whole chunk lasts.
        low: smallest action, (action_dim,), or one number for all; None: no limit. Finite float32
            numbers, as all limits.
        high: largest action, in the same way. No action outside of ``low`` and ``high`` is ever
            executed, wherever the robot is.
        max_change: largest change of each number of the action from one tick to the next, in the
            same way. From outside of the bounds it is measured from the nearest point within.
        position_key: observation that says where the robot is, in the units and the shape of an
            action, from which the change of the first action is measured; one that the policy
            sees, or one of the robot's ``obs_keys``. None: the first action may be anywhere.
        first_move: seconds of the way from where the robot is to the first action, a straight line
            at an even pace; at its end the policy is asked anew. For actions that are targets; it
            needs ``position_key``. None: the first action is executed at once, within the limits.
        dry_run: observe, ask and plan, but never call the robot's ``act``: what it would be told is
            logged (level INFO). As the robot does not move, neither does its task end.
        hold_action: what a robot that has to stand still is told, (action_dim,); None: the last
            action again, which is right for targets and wrong for velocities and differences. All
            limits hold for it too: with ``max_change`` it is reached tick by tick.
        ensemble_decay: of ``ensemble``.
        max_bad_observations: the run ends when so many ticks in a row had no complete and finite
            observation; None: never, the robot then holds until there is one. On a real robot it
            has to be said, see `lfm_runtime.control.Robot`.
        hang_timeout: seconds that one call of the robot may take. After that a watchdog stops the
            robot, from another thread, and ends the run. Not with a simulated clock. It cannot help
            where a library never lets Python work, or where ``stop`` itself waits for the call.
        on_policy_change: when the server, after a connection was lost, serves another policy or
            another sampler: ``stop`` ends the run, ``hold`` stands still until the old one is
            back.
    """

    joining: str = "replace"
    execute: int | None = None
    lead: int | None = None
    on_miss: str = "hold"
    patience: float = 0.5
    max_staleness: float | None = None
    low: float | Sequence[float] | None = None
    high: float | Sequence[float] | None = None
    max_change: float | Sequence[float] | None = None
    position_key: str | None = None
    first_move: float | None = None
    dry_run: bool = False
    hold_action: Sequence[float] | None = None
    ensemble_decay: float = 0.01
    max_bad_observations: int | None = None
    hang_timeout: float = 5.0
    on_policy_change: str = "stop"

    def __post_init__(self) -> None:
        """Check what can be checked without a policy.

        Raises:
            InputError: an option is not what it has to be.
        """
        _check_choice("joining", self.joining, JOININGS)
        _check_choice("on_miss", self.on_miss, ON_MISS)
        _check_choice("on_policy_change", self.on_policy_change, ON_POLICY_CHANGE)
        for name in ("execute", "max_bad_observations"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}, expected at least 1")
        if self.lead is not None and self.lead < 0:
            raise InputError(f"lead is {self.lead}, expected at least 0")
        if not 0 <= self.patience < 1:
            raise InputError(f"patience is {self.patience}, expected a part of a period below 1")
        for name in ("max_staleness", "hang_timeout", "first_move"):
            seconds = getattr(self, name)
            if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
                raise InputError(f"{name} is {seconds}, expected a positive number of seconds")
        if self.first_move is not None and self.position_key is None:
            raise InputError(
                f"first_move is {self.first_move}, which needs position_key: the observation that "
                "says where the robot is, in the units and the order of an action"
            )


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} is '{value}', expected one of {', '.join(known)}")
