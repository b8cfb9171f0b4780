"""Observations that are written down although the policy does not see them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lfm_runtime.errors import InputError

_LOG = logging.getLogger("lfm_runtime.control")


class AlsoRecorded:
    """The newest values of observations that are only recorded; a run never depends on them.

    Only on where the robot is, if the policy does not see that: until that is known once, nothing
    may move.

    Attributes:
        values: by name; those of the last tick in which they were good.
    """

    def __init__(self, keys: Sequence[str], position_key: str | None = None) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._keys = tuple(keys)
        self._position_key = position_key
        self._warned: set[str] = set()

    def lacks_position(self, obs: Mapping[str, Any]) -> InputError | None:
        """Return what is wrong with a tick that, like all before, tells no position."""
        key = self._position_key
        if key not in self._keys or key in self.values or key not in obs:
            return None  # one that is never given is an error of `take`
        if _finite(obs, key) is not None:
            return None
        return InputError(f"observation '{key}' (position_key) is no finite number")

    def take(self, obs: Mapping[str, Any]) -> None:
        """Take them from the observation of a tick.

        One that is missing later, or is no finite number, keeps its last value, which is said once.

        Raises:
            InputError: one was never there; nothing has been recorded of it then.
        """
        for key in self._keys:
            before, value = self.values.get(key), _finite(obs, key)
            if value is not None and (before is None or value.shape == before.shape):
                self.values[key] = value
            elif before is None:
                raise InputError(
                    f"observation '{key}' is to be recorded, and the robot gives no such finite "
                    f"numbers: it gives {', '.join(sorted(map(str, obs)))}"
                )
            elif key not in self._warned:
                self._warned.add(key)
                _LOG.warning("observation '%s' is recorded as it was: there is no new one", key)


def _finite(obs: Mapping[str, Any], key: str) -> np.ndarray | None:
    """Return an observation if it is of finite numbers."""
    try:
        value = np.array(obs[key])
        return value if value.dtype.kind in "fiub" and np.isfinite(value).all() else None
    except Exception:  # whatever the objects of a robot do when they are looked at
        return None
