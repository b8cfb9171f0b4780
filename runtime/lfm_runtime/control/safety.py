"""What stands between a policy and a robot: limits of actions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lfm_runtime.control.options import ControlOptions
from lfm_runtime.errors import InputError


class ActionLimits:
    """Keeps every action within its bounds and near the one before.

    All limits are of the dtype of actions, float32 but for robots whose actions float32 cannot tell
    apart: a bound of 0.1 is the float32 number nearest to it.

    Attributes:
        action_dim: numbers in one action.
        dtype: of actions, see `lfm_runtime.policy.spec.DataSpec.dtype`.
        hold_action: what a robot that has to stand still is told, (action_dim,); None: the last
            action again.
    """

    def __init__(self, options: ControlOptions, action_dim: int, dtype: str = "float32") -> None:
        """Read the limits.

        Raises:
            InputError: one has another length than an action, is no finite number of ``dtype``, or
                contradicts another.
        """
        self.action_dim = action_dim
        self.dtype = np.dtype(dtype)
        largest = np.finfo(self.dtype).max
        low, high = self._per_number("low", options.low), self._per_number("high", options.high)
        self._low = np.full(action_dim, -largest) if low is None else low
        self._high = np.full(action_dim, largest) if high is None else high
        self._max_change = self._per_number("max_change", options.max_change)
        if (self._low > self._high).any():
            raise InputError(
                f"low is {self._low.tolist()} and high {self._high.tolist()}: a smallest action "
                "exceeds the largest"
            )
        if self._max_change is not None and (self._max_change <= 0).any():
            raise InputError(
                f"max_change is {self._max_change.tolist()}, expected positive numbers: the robot "
                "could never move"
            )
        self.hold_action = self._hold_action(options)

    def apply(self, action: np.ndarray, previous: np.ndarray | None) -> tuple[np.ndarray, bool]:
        """Return the action that may be executed, and whether it differs from ``action``.

        It is within the bounds whatever ``previous`` is. Where that lies outside of them, as the
        position of a robot that begins there or the spike of a sensor does, the change is
        measured from the nearest point within: such a robot is called back at once.

        Args:
            action: (action_dim,).
            previous: the one before, or where the robot is; None: unknown.

        Returns:
            A new array (action_dim,) of `dtype`, finite, within the bounds.

        Raises:
            FloatingPointError: the action, or ``previous``, holds NaN or what `dtype` cannot hold.
        """
        wanted = self._finite("the action", action)
        allowed = np.clip(wanted, self._low, self._high)
        if previous is not None and self._max_change is not None:
            centre = np.clip(self._finite("the position", previous), self._low, self._high)
            allowed = np.clip(
                allowed,
                _toward(centre, centre.astype(np.float64) - self._max_change),
                _toward(centre, centre.astype(np.float64) + self._max_change),
            )
        # The last look at what moves the robot.
        if not ((self._low <= allowed) & (allowed <= self._high)).all():
            raise FloatingPointError(f"the action {allowed.tolist()} is outside of its bounds")
        return allowed, not np.array_equal(allowed, wanted)

    def _hold_action(self, options: ControlOptions) -> np.ndarray | None:
        if options.hold_action is None:
            return None
        try:
            (size,) = np.shape(options.hold_action)
        except ValueError:  # also of one number for all, which would be a guess here
            raise InputError(
                f"hold_action is {options.hold_action!r}, expected {self.action_dim} numbers"
            ) from None
        if size != self.action_dim:
            raise InputError(f"hold_action has {size} numbers, expected {self.action_dim}")
        action = self._per_number("hold_action", options.hold_action)
        assert action is not None
        if not ((self._low <= action) & (action <= self._high)).all():
            raise InputError(
                f"hold_action is {action.tolist()}, expected numbers within low and high: "
                f"{self._low.tolist()} and {self._high.tolist()}"
            )
        return action

    def _per_number(self, name: str, value: float | Sequence[float] | None) -> np.ndarray | None:
        """Return an option as (action_dim,), a copy; None where it was left out."""
        if value is None:
            return None
        try:
            # A copy: the caller's array may change while the robot moves.
            numbers = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{name} is {value!r}, expected numbers") from None
        if numbers.shape not in ((), (self.action_dim,)) or np.isnan(numbers).any():
            raise InputError(
                f"{name} is {numbers.tolist()}, expected one number or {self.action_dim}: as many "
                "as an action has"
            )
        with np.errstate(over="ignore"):
            rounded = numbers.astype(self.dtype)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"{name} is {numbers.tolist()}, expected finite {self.dtype} numbers, at most "
                f"{np.finfo(self.dtype).max:.3g} in size; leave {name} out where there is no limit"
            )
        return np.broadcast_to(rounded, (self.action_dim,)).copy()

    def _finite(self, what: str, value: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            numbers = np.asarray(value).astype(self.dtype)
        if not np.isfinite(numbers).all():
            raise FloatingPointError(f"{what} {np.asarray(value).tolist()} is not finite")
        return numbers


def _toward(centre: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return float64 numbers in the dtype of ``centre``, none farther from it than it was."""
    largest = np.finfo(centre.dtype).max
    rounded = np.clip(wanted, -largest, largest).astype(centre.dtype)
    too_far = np.abs(rounded.astype(np.float64) - centre) > np.abs(wanted - centre)
    return np.where(too_far, np.nextafter(rounded, centre), rounded)
