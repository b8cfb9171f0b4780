"""The observations of one robot: checked frame by frame, and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.observations import is_image
from lfm_runtime.history import History, stacked
from lfm_runtime.observations import float_array, image_array, not_finite

IGNORED_KEYS = frozenset({"prompt"})
"""What openpi's clients send along whatever the policy is, and no policy here reads."""

_MAXIMUM_NAMES = 20


class ConnectionHistory:
    """The last ``n_obs_steps`` frames of one connection.

    The first frame after `clear` fills the whole history, as in `Policy.select_action`.
    """

    def __init__(self, obs_shapes: Mapping[str, tuple[int, ...]], n_obs_steps: int) -> None:
        self._shapes = {key: tuple(shape) for key, shape in obs_shapes.items()}
        self._n_obs_steps = n_obs_steps
        self._history: History[dict[str, np.ndarray]] = History(n_obs_steps)

    def clear(self) -> None:
        """Forget all frames; call at the start of an episode."""
        self._history.clear()

    def add(self, obs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the history with this observation as its newest, each (n_obs_steps, *shape).

        float32, or uint8 for camera images. Nothing is remembered of an observation that is
        refused.

        Args:
            obs: either one frame, each observation of its own shape, or the whole history, each
                (n_obs_steps, *shape), which then replaces what was remembered.

        Raises:
            InputError: an observation is missing, unknown, of another shape or dtype, or not
                finite; or some are one frame and others a history.
        """
        self._check_keys(obs)
        checked = {key: self._check(key, obs[key]) for key in self._shapes}
        histories = sorted(key for key in checked if checked[key].ndim > len(self._shapes[key]))
        if not histories:
            self._history.add(checked)
            return stacked(self._history.frames)
        if len(histories) < len(checked):
            raise InputError(
                f"observations {histories} come with a history and "
                f"{sorted(checked.keys() - set(histories))} without: expected all or none"
            )
        self._history.replace(
            [{key: value[k] for key, value in checked.items()} for k in range(self._n_obs_steps)]
        )
        return checked

    def _check_keys(self, obs: Mapping[str, Any]) -> None:
        for what, names in (
            ("missing", self._shapes.keys() - obs.keys()),
            ("unknown", obs.keys() - self._shapes.keys() - IGNORED_KEYS),
        ):
            if names:
                raise InputError(
                    f"observations {_shown(names)} are {what}: found {_shown(obs) or 'nothing'}, "
                    f"expected {sorted(self._shapes)}"
                )

    def _check(self, key: str, value: Any) -> np.ndarray:
        shape = self._shapes[key]
        array = image_array(key, value) if is_image(shape) else float_array(key, value)
        if array.shape not in (shape, (self._n_obs_steps, *shape)):
            raise InputError(
                f"observation '{key}' has shape {array.shape}, expected {shape}, or "
                f"{(self._n_obs_steps, *shape)} with its history"
            )
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            raise not_finite(key)
        return array


def _shown(names: Any) -> list[str]:
    """Return some of the names, cut short: whoever sent them chose their length and number."""
    return sorted(str(name)[:60] for name in names)[:_MAXIMUM_NAMES]
