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

    Attributes:
        values: by name; those of the last tick in which they were good.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._keys = tuple(keys)
        self._warned: set[str] = set()

    def take(self, obs: Mapping[str, Any]) -> None:
        """Take them from the observation of a tick.

        One that is missing later, or is no finite number, keeps its last value, which is said once.

        Raises:
            InputError: one was never there; nothing has been recorded of it then.
        """
        for key in self._keys:
            before = self.values.get(key)
            try:
                value = np.array(obs[key])
                good = value.dtype.kind in "fiub" and bool(np.isfinite(value).all())
                good = good and (before is None or value.shape == before.shape)
            except Exception:  # whatever the objects of a robot do when they are looked at
                good = False
            if good:
                self.values[key] = value
            elif before is None:
                raise InputError(
                    f"observation '{key}' is to be recorded, and the robot gives no such finite "
                    f"numbers: it gives {', '.join(sorted(map(str, obs)))}"
                )
            elif key not in self._warned:
                self._warned.add(key)
                _LOG.warning("observation '%s' is recorded as it was: there is no new one", key)
