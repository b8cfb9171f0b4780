"""What stands between a policy and a robot: limits of actions, checks of observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lfm_runtime.control.options import ControlOptions
from lfm_runtime.errors import InputError
from lfm_runtime.history import History, stacked
from lfm_runtime.observations import checked_frame, require_observation


class ActionLimits:
    """Keeps every action within its bounds and near the one before.

    Attributes:
        action_dim: numbers in one action.
    """

    def __init__(self, options: ControlOptions, action_dim: int) -> None:
        """Read the limits.

        Raises:
            InputError: one has another length than an action, is NaN, or contradicts another.
        """
        self.action_dim = action_dim
        self._low = _per_number("low", options.low, action_dim, -np.inf)
        self._high = _per_number("high", options.high, action_dim, np.inf)
        self._max_change = _per_number("max_change", options.max_change, action_dim, np.inf)
        if (self._low > self._high).any():
            raise InputError(
                f"low is {self._low.tolist()} and high {self._high.tolist()}: a smallest action "
                "exceeds the largest"
            )
        if (self._max_change <= 0).any():
            raise InputError(
                f"max_change is {self._max_change.tolist()}, expected positive numbers: the robot "
                "could never move"
            )

    def apply(self, action: np.ndarray, previous: np.ndarray | None) -> tuple[np.ndarray, bool]:
        """Return the action that may be executed, and whether it differs from ``action``.

        The bounds come first: where the previous action lies outside them, the way back is as
        fast as the largest change allows.

        Args:
            action: (action_dim,).
            previous: the one before, or where the robot is; None: unknown.

        Raises:
            FloatingPointError: the action holds NaN or infinity.
        """
        if not np.isfinite(action).all():
            raise FloatingPointError(f"the action {action.tolist()} is not finite")
        allowed = np.clip(action, self._low, self._high)
        if previous is not None:
            allowed = np.clip(allowed, previous - self._max_change, previous + self._max_change)
        allowed = np.asarray(allowed, dtype=np.float32)
        return allowed, not np.array_equal(allowed, np.asarray(action, dtype=np.float32))


class TickHistory:
    """The last frames that were complete and finite, one per tick."""

    def __init__(self, obs_shapes: Mapping[str, tuple[int, ...]], n_obs_steps: int) -> None:
        self._shapes = {key: tuple(shape) for key, shape in obs_shapes.items()}
        self._history: History[dict[str, np.ndarray]] = History(n_obs_steps)

    def add(self, obs: Mapping[str, Any] | None) -> None:
        """Take the frame of a tick; the first one fills the whole history.

        Raises:
            InputError: it is missing, incomplete, misshapen or not finite. The frame before then
                stands for it too, so that frames stay one tick apart.
        """
        try:
            if obs is None:
                raise InputError("there is no new observation")
            frame = {
                key: checked_frame(key, require_observation(key, obs, self._shapes), shape)
                for key, shape in self._shapes.items()
            }
        except InputError:
            if self.newest is not None:
                self._history.add(self.newest)
            raise
        self._history.add(frame)

    @property
    def newest(self) -> dict[str, np.ndarray] | None:
        """The last good frame."""
        return self._history.newest

    def stacked(self) -> dict[str, np.ndarray]:
        """Return the history by name, (n_obs_steps, *shape), oldest first."""
        return stacked(self._history.frames)


def _per_number(
    name: str, value: float | Sequence[float] | None, action_dim: int, default: float
) -> np.ndarray:
    try:
        numbers = np.asarray(default if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}, expected numbers") from None
    if numbers.shape not in ((), (action_dim,)) or np.isnan(numbers).any():
        raise InputError(
            f"{name} is {numbers.tolist()}, expected one number or {action_dim}: as many as an "
            "action has"
        )
    return np.broadcast_to(numbers, (action_dim,))
