"""Which arrays of a robomimic file are observed where nobody names any: all that can be."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np

from lfm_policy.data.images.depth import as_depth_advice, looks_like_depth
from lfm_policy.data.robomimic.file import KeyInfo, RobomimicFile
from lfm_policy.errors import InputError

RANKS = (1, 2, 3)
"""Ranks of low-dimensional arrays, time included; of one step they are 0 to 2."""


def observed_keys(
    file: RobomimicFile, demos: Sequence[str], lengths: Sequence[int], depth: Collection[str]
) -> list[str]:
    """Return the observations that are read by default.

    Args:
        file: where they are.
        demos: those that are read.
        lengths: number of steps of each.
        depth: observations that are images of depth.

    Raises:
        InputError: there is none.

    Warns:
        UserWarning: some are left out.
    """
    stored = file.stored(demos[0])
    left_out, usable = {}, []
    for key in file.observation_keys(demos[0]):
        name = file.observation(key)
        if name in stored:
            reason = "" if key in depth else _why_no_observation(file, demos[0], key, stored[name])
            reason = reason or why_other_length(file, demos, lengths, name)
        elif inside := [n for n in stored if n.startswith(f"{name}/")]:
            reason = f"is a group: name its arrays, such as {inside[0].removeprefix('obs/')}"
        else:
            reason = "is an empty group"
        if reason:
            left_out[key] = reason
        else:
            usable.append(key)
    reasons = ", ".join(f"{key} ({reason})" for key, reason in left_out.items())
    if not usable:
        raise InputError(
            f"{file.path}: {demos[0]} has neither low-dimensional arrays nor images of 0 to 255 "
            f"under obs, only: {reasons}; name obs_keys to choose"
        )
    if left_out:
        warnings.warn(f"{file.path}: left out: {reasons}; name obs_keys to choose", stacklevel=3)
    return usable


def _why_no_observation(file: RobomimicFile, demo: str, key: str, info: KeyInfo) -> str:
    """Say why an array cannot be observed, to follow its name; ``""`` if it can."""
    if info.problem:
        return info.problem
    if info.dtype.kind not in "fiub":
        return f"has dtype {info.dtype}, expected numbers"
    if 0 in info.shape:
        return "holds no values"
    if looks_like_depth(info.shape, info.dtype):
        return f"has {info.dtype} {info.shape} per step; {as_depth_advice(key)}"
    if info.layout is not None:
        return "" if info.dtype == np.uint8 else _why_no_pictures(file, demo, key, info)
    return "" if len(info.shape) + 1 in RANKS else f"has shape {info.shape} per step"


def _why_no_pictures(file: RobomimicFile, demo: str, key: str, info: KeyInfo) -> str:
    """Say why images of another type than uint8 are none of 0 to 255; ``""`` if they are.

    Those of one channel are depth more often than not, so they want to be named.
    """
    held = f"holds images of {info.dtype}"
    if info.layout is not None and info.layout.frame_shape[2] == 1:
        return f"{held} of one channel; {as_depth_advice(key)}"
    try:
        part = next(file.parts(demo, file.observation(key)), None)
    except InputError:
        return ""  # damaged, which reading it says
    if part is None:
        return ""
    low, high = float(part.min()), float(part.max())
    return "" if low >= 0 and 1 < high <= 255 else f"{held} from {low:g} to {high:g}, not 0 to 255"


def why_other_length(
    file: RobomimicFile, demos: Sequence[str], lengths: Sequence[int], name: str
) -> str:
    """Say that an array has not one row per step, which is its nature if most demos have it so.

    Otherwise single demos are damaged, which has to be said to who reads them.
    """
    if file.n_steps(demos[0], name) == lengths[0]:
        return ""
    found = [file.n_steps(demo, name) for demo in demos]
    others = [n != length for n, length in zip(found, lengths, strict=True)]
    if 2 * sum(others) <= len(demos):
        return ""
    return f"has {found[0]} rows, where {demos[0]} has {lengths[0]} steps"
