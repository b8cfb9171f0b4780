"""Per-key affine normalisation, fitted on the training split and stored with the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from lfm_policy.data.outliers import coincide, quantiles
from lfm_policy.data.resolution import CONSTANT_RANGE, ENOUGH_LEVELS, far_elements, is_wide, levels
from lfm_policy.errors import InputError
from lfm_runtime.registry import nearest_names

MODES = ("limits", "quantiles", "standard", "identity")
"""limits: the smallest value to -1, the largest to 1; quantiles: the same with the 1% and the 99%
quantile, beyond which values go on linearly (nothing is clipped); standard: mean 0, standard
deviation 1; identity: unchanged."""

DEFAULT_MODE = "limits"


@dataclass(frozen=True)
class KeyStatistics:
    """The transform of one key, ``normalized = scale * (x - origin) + offset``, and its data.

    All have the shape of one step of the key, in the key's own unit, and are float32 but for
    ``origin``. That is float64 and there only where float32 cannot tell the values apart (see
    `lfm_policy.data.resolution`): it is subtracted before anything becomes float32, and the
    statistics are those of ``x - origin``.
    """

    scale: Tensor
    offset: Tensor
    min: Tensor
    max: Tensor
    mean: Tensor
    std: Tensor
    origin: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return what is there by name."""
        parts = {part: getattr(self, part) for part in _PARTS}
        return parts if self.origin is None else {**parts, _ORIGIN: self.origin}

    def raw(self, part: str) -> Tensor:
        """Return ``min``, ``max`` or ``mean`` of the data themselves; float64 with an origin."""
        value: Tensor = getattr(self, part)
        return value if self.origin is None else value.to(torch.float64) + self.origin


_ORIGIN = "origin"
_PARTS = tuple(field.name for field in fields(KeyStatistics) if field.name != _ORIGIN)


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
            InputError: an unknown mode, a mode for a key that does not exist, an array without
                steps, or one that stays as it is although float32 cannot tell its values apart.
        """
        if isinstance(modes, str):
            modes = {"default": modes}
        check_modes(modes)
        for key in modes:
            if key != "default" and key not in arrays:
                raise InputError(
                    f"normalization.keys names '{key}', which is not among the numbers of the "
                    "dataset: " + nearest_names(key, tuple(arrays))
                )
        default = modes.get("default", DEFAULT_MODE)
        kept = unscaled or {}
        return cls(
            {
                key: _fit_key(key, array, modes.get(key, default), kept.get(key, ()))
                for key, array in arrays.items()
            }
        )

    def keeping(self, earlier: Normalizer) -> Normalizer:
        """Return these statistics with the transforms of ``earlier`` where it has the same key.

        The ranges become those of both data, so that both are acted on; mean and standard deviation
        are the earlier ones. A key whose shape has changed keeps nothing.
        """
        kept = {}
        for key, own in self._statistics.items():
            known = earlier._statistics.get(key)
            if known is None or known.scale.shape != own.scale.shape:
                continue
            low = torch.minimum(known.raw("min"), own.raw("min"))
            high = torch.maximum(known.raw("max"), own.raw("max"))
            if known.origin is not None:
                low, high = low - known.origin, high - known.origin
            kept[key] = replace(known, min=low.to(torch.float32), max=high.to(torch.float32))
        return Normalizer(self._statistics | kept)

    def beyond(self, earlier: Normalizer) -> dict[str, float]:
        """Return how far these data leave the range of ``earlier``, by key, in its scaled units.

        That is the largest distance of any element; keys that stay inside are left out.
        """
        distances = {}
        for key, own in self._statistics.items():
            known = earlier._statistics.get(key)
            if known is None or known.scale.shape != own.scale.shape:
                continue
            below = (known.raw("min") - own.raw("min")) * known.scale
            above = (own.raw("max") - known.raw("max")) * known.scale
            distances[key] = float(torch.maximum(below, above).max())
        return {key: distance for key, distance in distances.items() if distance > 0}

    def only(self, *keys: str) -> Normalizer:
        """Return the transforms of some keys.

        Raises:
            InputError: one is not known.
        """
        return Normalizer({key: self[key] for key in keys})

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
        if stats.origin is not None:
            x = x.to(torch.float64) - stats.origin
        return x.to(torch.float32) * stats.scale + stats.offset

    def unnormalize(self, key: str, x: Tensor) -> Tensor:
        """Map normalised values of shape (..., *step shape) back to raw float32.

        With an origin the values are float64.

        Raises:
            InputError: an unknown key, or another shape than the one fitted.
        """
        stats = self._checked(key, x)
        raw = (x.to(torch.float32) - stats.offset) / stats.scale
        return raw if stats.origin is None else raw.to(torch.float64) + stats.origin

    def to(self, device: str | torch.device) -> Normalizer:
        """Return a copy with its tensors on ``device``."""
        return Normalizer(
            {
                key: KeyStatistics(**{part: x.to(device) for part, x in stats.tensors().items()})
                for key, stats in self._statistics.items()
            }
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all tensors under flat names such as ``"action/scale"``."""
        return {
            f"{key}/{part}": tensor
            for key, stats in self._statistics.items()
            for part, tensor in stats.tensors().items()
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
            if not key or part not in (*_PARTS, _ORIGIN):
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
    low, high = x.min(axis=0), x.max(axis=0)
    kept = np.full(low.shape, mode == "identity")
    if unscaled:
        kept[..., list(unscaled)] = True
    origin = _origin(key, array.dtype, low, high, kept)
    if origin is not None:
        x -= origin
        low, high = x.min(axis=0), x.max(axis=0)
    mean, std = x.mean(axis=0), x.std(axis=0)
    first, last = low, high
    if mode == "quantiles":
        q01, q99 = quantiles(x)
        one = coincide(q01, q99, low, high)
        first, last = np.where(one, low, q01), np.where(one, high, q99)
    centre, spread = (mean, std) if mode == "standard" else ((first + last) / 2, (last - first) / 2)
    spread = np.where(high - low < CONSTANT_RANGE, 1.0, spread)
    centre, spread = np.where(kept, 0.0, centre), np.where(kept, 1.0, spread)
    values = (1 / spread, -centre / spread, low, high, mean, std)
    parts = {
        part: torch.from_numpy(np.asarray(v, dtype=np.float32))
        for part, v in zip(_PARTS, values, strict=True)
    }
    return KeyStatistics(**parts, origin=None if origin is None else torch.from_numpy(origin))


def _origin(
    key: str, dtype: np.dtype, low: np.ndarray, high: np.ndarray, kept: np.ndarray
) -> np.ndarray | None:
    """Return what has to be subtracted in float64, 0 where nothing has; None if nothing at all.

    ``kept`` says which elements are not to be changed.
    """
    far = far_elements(low, high)
    if not far.any():
        return None
    if is_wide(dtype) and (far & kept).any():
        element = tuple(np.argwhere(far & kept)[0].tolist())
        steps = levels(low, high, np.float32)[element]
        raise InputError(
            f"'{key}' is not to be normalised, but float32 cannot tell its values apart: element "
            f"{', '.join(map(str, element))} goes from {low[element]:.10g} to "
            f"{high[element]:.10g}, {steps:.0f} steps of float32, expected at least "
            f"{ENOUGH_LEVELS}: choose another normalization of '{key}', or subtract an offset in "
            "the demonstrations and on the robot"
        )
    moved = far & ~kept
    return np.where(moved, low + (high - low) / 2, 0.0) if moved.any() else None


def _check_parts(key: str, parts: Mapping[str, Tensor], source: str) -> None:
    shape = parts["scale"].shape
    for part, tensor in parts.items():
        name = f"{source}: '{key}/{part}'"
        dtype = torch.float64 if part == _ORIGIN else torch.float32
        if tensor.dtype != dtype or tensor.shape != shape:
            raise InputError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; expected {dtype} "
                f"of shape {tuple(shape)} like '{key}/scale'"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name} holds NaN or infinity: the file is damaged")
    if not bool((parts["scale"] > 0).all()):
        raise InputError(f"{source}: '{key}/scale' must be positive: the file is damaged")
    if not bool((parts["min"] <= parts["max"]).all()):
        raise InputError(f"{source}: '{key}/min' exceeds '{key}/max': the file is damaged")
