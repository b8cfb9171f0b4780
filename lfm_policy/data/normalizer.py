"""Per-key affine normalisation, fitted on the training split and stored with the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.registry import nearest_names

MODES = ("limits", "standard", "identity")
"""limits: to [-1, 1]; standard: mean 0, standard deviation 1; identity: unchanged."""

DEFAULT_MODE = "limits"

CONSTANT_RANGE = 1e-4
"""A dimension whose values span less (in its own unit) counts as constant: it is centred, not
scaled, so that a change in use is not blown up. The value is Diffusion Policy's."""


@dataclass(frozen=True)
class KeyStatistics:
    """The transform of one key, ``normalized = scale * x + offset``, and what it was fitted on.

    All are float32 of the shape of one step of the key, in the key's own unit.
    """

    scale: Tensor
    offset: Tensor
    min: Tensor
    max: Tensor
    mean: Tensor
    std: Tensor


_PARTS = tuple(field.name for field in fields(KeyStatistics))


class Normalizer:
    """Affine transforms by key.

    The transform of a missing key is never guessed: it is an error that names the key.
    """

    def __init__(self, statistics: Mapping[str, KeyStatistics]) -> None:
        self._statistics = dict(statistics)

    @classmethod
    def fit(
        cls,
        arrays: Mapping[str, np.ndarray],
        modes: Mapping[str, str] | str = DEFAULT_MODE,
        unscaled: Mapping[str, Sequence[int]] | None = None,
    ) -> Normalizer:
        """Fit on arrays of shape (T, ...), every element of a step by itself.

        Args:
            arrays: the training split only.
            modes: one mode for all keys, or one by key; the entry ``"default"`` (else
                ``"limits"``) stands for the keys that are not named.
            unscaled: elements of a step, by key, that stay as they are; see `ReplayBuffer`.

        Raises:
            InputError: an unknown mode, a mode for a key that does not exist, or an array without
                steps.
        """
        if isinstance(modes, str):
            modes = {"default": modes}
        check_modes(modes)
        for key in modes:
            if key != "default" and key not in arrays:
                raise InputError(
                    f"normalization names the key '{key}', which is not in the dataset: "
                    + nearest_names(key, tuple(arrays))
                )
        default = modes.get("default", DEFAULT_MODE)
        kept = unscaled or {}
        return cls(
            {
                key: _fit_key(key, array, modes.get(key, default), kept.get(key, ()))
                for key, array in arrays.items()
            }
        )

    def keys(self) -> tuple[str, ...]:
        """Return the known keys."""
        return tuple(self._statistics)

    def __getitem__(self, key: str) -> KeyStatistics:
        """Return the statistics of ``key``.

        Raises:
            InputError: there are none; the message lists the known keys.
        """
        if key not in self._statistics:
            raise InputError(
                f"the normaliser has no statistics for '{key}'; it knows: "
                + (", ".join(self._statistics) or "no key")
            )
        return self._statistics[key]

    def normalize(self, key: str, x: Tensor) -> Tensor:
        """Map raw values of shape (..., *step shape), any dtype, to normalised float32.

        Raises:
            InputError: an unknown key, or another shape than the one fitted.
        """
        stats = self._checked(key, x)
        return x.to(torch.float32) * stats.scale + stats.offset

    def unnormalize(self, key: str, x: Tensor) -> Tensor:
        """Map normalised values of shape (..., *step shape) back to raw float32.

        Raises:
            InputError: an unknown key, or another shape than the one fitted.
        """
        stats = self._checked(key, x)
        return (x.to(torch.float32) - stats.offset) / stats.scale

    def to(self, device: str | torch.device) -> Normalizer:
        """Return a copy with its tensors on ``device``."""
        return Normalizer(
            {
                key: KeyStatistics(**{part: getattr(stats, part).to(device) for part in _PARTS})
                for key, stats in self._statistics.items()
            }
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all tensors under flat names such as ``"action/scale"``."""
        return {
            f"{key}/{part}": getattr(stats, part)
            for key, stats in self._statistics.items()
            for part in _PARTS
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], source: str = "normaliser") -> Normalizer:
        """Rebuild from :meth:`state_tensors`; the tensors may come from an untrusted file.

        Raises:
            InputError: a name or tensor is missing, unknown, not finite, of another dtype or
                shape than its siblings, or a scale is not positive.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            key, _, part = name.rpartition("/")
            if not key or part not in _PARTS:
                raise InputError(
                    f"{source}: unexpected tensor '{name}'; expected names such as "
                    f"'action/scale' with one of {', '.join(_PARTS)}"
                )
            parts.setdefault(key, {})[part] = tensor
        for key, found in parts.items():
            missing = [part for part in _PARTS if part not in found]
            if missing:
                raise InputError(
                    f"{source}: '{key}' lacks {', '.join(missing)}: the file is incomplete"
                )
            _check_parts(key, found, source)
        return cls({key: KeyStatistics(**found) for key, found in parts.items()})

    def _checked(self, key: str, x: Tensor) -> KeyStatistics:
        stats = self[key]
        shape = stats.scale.shape
        if x.shape[x.ndim - len(shape) :] != shape:
            raise InputError(
                f"'{key}' has shape {tuple(x.shape)}; expected {tuple(shape)} after any leading "
                "(batch, time) dimensions, as in the data the normaliser was fitted on"
            )
        return stats


def check_modes(modes: Mapping[str, str]) -> None:
    """Check the values of a mapping from key to normalisation mode.

    Raises:
        InputError: a mode is unknown.
    """
    for key, mode in modes.items():
        if mode not in MODES:
            raise InputError(
                f"normalization of '{key}' is '{mode}': {nearest_names(mode, MODES)} "
                f"(known: {', '.join(MODES)})"
            )


def _fit_key(key: str, array: np.ndarray, mode: str, unscaled: Sequence[int] = ()) -> KeyStatistics:
    if len(array) == 0:
        raise InputError(f"cannot fit a normaliser for '{key}': it has no steps")
    x = array.astype(np.float64)  # float32 sums over many steps lose digits
    low, high, mean, std = x.min(axis=0), x.max(axis=0), x.mean(axis=0), x.std(axis=0)
    if mode == "limits":
        centre, spread = (low + high) / 2, (high - low) / 2
    elif mode == "standard":
        centre, spread = mean, std
    else:
        centre, spread = np.zeros_like(mean), np.ones_like(mean)
    if mode != "identity":
        spread = np.where(high - low < CONSTANT_RANGE, 1.0, spread)
    if unscaled:
        centre[..., list(unscaled)] = 0.0
        spread[..., list(unscaled)] = 1.0
    values = (1 / spread, -centre / spread, low, high, mean, std)
    return KeyStatistics(*(torch.from_numpy(np.asarray(v, dtype=np.float32)) for v in values))


def _check_parts(key: str, parts: Mapping[str, Tensor], source: str) -> None:
    shape = parts["scale"].shape
    for part, tensor in parts.items():
        name = f"{source}: '{key}/{part}'"
        if tensor.dtype != torch.float32 or tensor.shape != shape:
            raise InputError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; expected torch.float32 "
                f"of shape {tuple(shape)} like '{key}/scale'"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name} holds NaN or infinity: the file is damaged")
    if not bool((parts["scale"] > 0).all()):
        raise InputError(f"{source}: '{key}/scale' must be positive: the file is damaged")
    if not bool((parts["min"] <= parts["max"]).all()):
        raise InputError(f"{source}: '{key}/min' exceeds '{key}/max': the file is damaged")
