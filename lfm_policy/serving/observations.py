"""The observations of one robot: checked frame by frame, and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_runtime.policy.history import History, stacked
from lfm_runtime.policy.observation_layouts import arranged
from lfm_runtime.policy.observations import float_array, image_array, is_image, not_finite
from lfm_runtime.policy.spec import DataSpec

IGNORED_KEYS = frozenset({"prompt"})
"""What openpi's clients send along whatever the policy is, and no policy here reads."""

_INSTRUCTION = "__"
"""How the protocol's own names begin; one that is not known here is not left out silently."""

_MAXIMUM_NAMES = 20


class ConnectionHistory:
    """The last ``n_obs_steps`` frames of one connection.

    The first frame after `clear` fills the whole history, as in `Policy.select_action`.

    Args:
        spec: names, shapes and dtypes of the observations.
        n_obs_steps: frames that the policy sees.
        strict: refuse names that the policy does not know, instead of leaving them out.
    """

    def __init__(
        self,
        spec: DataSpec,
        n_obs_steps: int,
        *,
        strict: bool = False,
    ) -> None:
        self._spec = spec
        self._shapes = spec.obs_shapes
        self._n_obs_steps = n_obs_steps
        self._strict = strict
        self._history: History[dict[str, np.ndarray]] = History(n_obs_steps)

    def clear(self) -> None:
        """Forget all frames; call at the start of an episode."""
        self._history.clear()

    def add(self, obs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the history with this observation as its newest, each (n_obs_steps, *shape).

        Each of its `DataSpec.dtype`. Nothing is remembered of an observation that is
        refused.

        Args:
            obs: either one frame, each observation of its own shape, or the whole history, each
                (n_obs_steps, *shape), which then replaces what was remembered; laid out as
                `lfm_runtime.policy.observation_layouts` knows.

        Raises:
            InputError: an observation is missing, of another shape or dtype, or not finite; or
                some are one frame and others a history; or a name is not known, and means an
                instruction or must be known (``strict``).
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

    def unknown(self, obs: Mapping[str, Any]) -> list[str]:
        """Return names that no policy here reads and no client of openpi's sends to all."""
        return _shown(obs.keys() - self._shapes.keys() - IGNORED_KEYS)

    def _check_keys(self, obs: Mapping[str, Any]) -> None:
        unknown = obs.keys() - self._shapes.keys() - IGNORED_KEYS
        if not self._strict:
            unknown = {name for name in unknown if name.startswith(_INSTRUCTION)}
        for what, names in (("missing", self._shapes.keys() - obs.keys()), ("unknown", unknown)):
            if names:
                raise InputError(
                    f"observations {_shown(names)} are {what}: found "
                    f"{_described(obs) or 'nothing'}; expected {self._expected()}"
                )

    def _expected(self) -> str:
        return ", ".join(
            f"{key} {self._spec.dtype(key)} {shape}" for key, shape in sorted(self._shapes.items())
        )

    def _check(self, key: str, value: Any) -> np.ndarray:
        shape = self._shapes[key]
        fitting = arranged(key, value, shape, n_obs_steps=self._n_obs_steps)
        if is_image(shape):
            return image_array(key, fitting)
        array = float_array(key, fitting, self._spec.dtype(key))
        if not np.isfinite(array).all():
            raise not_finite(key)
        return array


def _described(obs: Mapping[str, Any]) -> str:
    """Return what was sent, as ``name dtype shape`` each."""
    return ", ".join(
        f"{str(key)[:60]} "
        + (
            f"{obs[key].dtype} {obs[key].shape}"
            if isinstance(obs[key], (np.ndarray, np.generic))
            else type(obs[key]).__name__
        )
        for key in sorted(obs)[:_MAXIMUM_NAMES]
    )


def _shown(names: Any) -> list[str]:
    """Return some of the names, cut short: whoever sent them chose their length and number."""
    return sorted(str(name)[:60] for name in names)[:_MAXIMUM_NAMES]
