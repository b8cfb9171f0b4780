"""Our normalisation as LeRobot's: one mode for every type of feature, and statistics by key.

LeRobot computes its transform from statistics of the data, ours has its factors. So the statistics
that a mode looks at are those that give our transform, which are the data's own but for elements
that do not vary; what the data had is kept beside them, as ``data_min`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lfm_policy.data.normalizer import KeyStatistics
from lfm_policy.errors import InputError
from lfm_policy.lerobot.fields import MODES

NAMES = {ours: theirs for theirs, ours in MODES.items() if theirs != "QUANTILE10"}
LOOKED_AT = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "MEAN_STD": ("mean", "std")}
"""LeRobot's mode -> the statistics that it looks at."""

PARTS = ("min", "max", "mean", "std")
DATA = "data_"
"""Before the name of a statistic of the data where another stands in its place."""

EPSILON = 1e-8
"""What LeRobot adds to standard deviations of observations."""


def lerobot_mode(modes: Iterable[str], statistics: Iterable[KeyStatistics]) -> str:
    """Return LeRobot's mode for all keys of a type.

    Args:
        modes: ours, of each key.
        statistics: of each key.
    """
    found = {NAMES[mode] for mode in modes}
    if len(found) != 1:
        return "MIN_MAX"  # by which any factors can be said
    (mode,) = found
    if mode == "IDENTITY" and not all(_unchanged(stats) for stats in statistics):
        return "MIN_MAX"
    return mode


def _unchanged(stats: KeyStatistics) -> bool:
    return stats.origin is None and bool((stats.scale == 1).all() & (stats.offset == 0).all())


def lerobot_statistics(stats: KeyStatistics, mode: str, *, action: bool) -> dict[str, Tensor]:
    """Return what LeRobot keeps of a key, float32, by name of the statistic.

    Args:
        stats: ours.
        mode: LeRobot's.
        action: whether it is the action, of which LeRobot only takes the way back.
    """
    origin = torch.zeros(()) if stats.origin is None else stats.origin
    own = {part: getattr(stats, part).double() for part in PARTS}
    own |= {part: own[part] + origin for part in ("min", "max", "mean")}
    looked_at: dict[str, Tensor] = {}
    if mode in LOOKED_AT:
        first, last = LOOKED_AT[mode]
        scale, offset = stats.scale.double(), stats.offset.double()
        if mode == "MEAN_STD":
            spread = 1 / scale if action else 1 / scale - EPSILON
            looked_at = {first: origin - offset / scale, last: spread}
        else:
            looked_at = {
                first: origin + (-1 - offset) / scale,
                last: origin + (1 - offset) / scale,
            }
    kept = {f"{DATA}{part}": own[part] for part in looked_at if part in own}
    return {name: value.float() for name, value in {**own, **looked_at, **kept}.items()}


def with_data(stats: KeyStatistics, found: Mapping[str, Tensor], label: str) -> KeyStatistics:
    """Return statistics that know of the data what `lerobot_statistics` kept beside others.

    Args:
        stats: as LeRobot's mode gives them.
        found: all that LeRobot has of the key.
        label: of the file, for messages.

    Raises:
        InputError: one has another shape, or is not finite.
    """
    own = stats.tensors()
    origin = own.get("origin", torch.zeros(()))
    for part in PARTS:
        value = found.get(f"{DATA}{part}")
        if value is None:
            continue
        if value.shape != stats.scale.shape or not bool(torch.isfinite(value).all()):
            raise InputError(
                f"{label}: {DATA}{part} has shape {tuple(value.shape)}, expected finite numbers of "
                f"shape {tuple(stats.scale.shape)}"
            )
        value = value.double()
        own[part] = (value if part == "std" else value - origin).float()
    return KeyStatistics(**own)
