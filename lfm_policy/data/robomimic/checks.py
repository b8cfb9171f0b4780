"""What the arrays and names of robomimic files are checked for and sorted by."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from lfm_policy.data.hdf5.file import Hdf5Group
from lfm_policy.errors import InputError

_LISTED = 20


def check_finite(values: np.ndarray, source: str) -> None:
    """Check values (steps, ...) as training sees them.

    Raises:
        InputError: NaN or infinity (in float32); the message names the first step.
    """
    if values.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, as in training
        finite = np.isfinite(values.astype(np.float32, copy=False)).reshape(len(values), -1)
    if not finite.all():
        step = int(np.argmin(finite.all(axis=1)))
        value = values[step].reshape(-1)[~finite[step]][0]
        raise InputError(
            f"{source} holds {value} in step {step}; every value must be a finite float32: repair "
            "or drop this demo"
        )


def numeric_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key by which numbers inside names count as numbers: demo_2, demo_10."""
    # A number with more digits is larger; those with as many compare like text. Text itself comes
    # after numbers. No int: there may be more digits than Python converts.
    parts = [part.lstrip("0") if part.isdigit() else part for part in re.split("([0-9]+)", name)]
    return tuple((len(p) if p.isdigit() or not p else 2**63, p) for p in parts)


def some_names(names: Sequence[str]) -> str:
    """Return names for a message: the first ones, and so much of each that it can be read."""
    listed = [f"{name:.60}" for name in names[:_LISTED]]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(listed) + more if listed else "nothing"


def one_episode_hint(names: Sequence[str]) -> str:
    """Return what to do with a file that holds one episode, as ALOHA's and DROID's recorders write.

    Args:
        names: what is at the root of a file that has no ``data``.

    Returns:
        To follow a message; empty where nothing looks like an episode.
    """
    if not {"action", "actions"} & set(names) or not {"observation", "observations"} & set(names):
        return ""
    return (
        ". It looks like a single episode, as ALOHA and DROID record them, one file each: that "
        "layout is not read. Convert all of them to a LeRobot dataset (v2.0 to v3.0; the makers of "
        "such sets publish converters), or copy them into one robomimic file (data/demo_0, "
        "data/demo_1 and so on) or one zarr replay buffer (data/<key>, episodes end to end, and "
        "meta/episode_ends)"
    )


def is_marked_failed(demo: Hdf5Group) -> bool:
    """Return whether the attribute ``success`` of a demo says no, as Isaac Lab writes it."""
    if not demo.has_attribute("success"):
        return False
    try:
        said = np.asarray(demo.attribute("success"))
    except InputError:  # too large for a mark: nobody asked for it
        return False
    return said.size == 1 and said.dtype.kind in "biuf" and not said.item()


def check_memory(n_bytes: int, source: str) -> None:
    """Check that an array can be held in memory, before it is asked for.

    Raises:
        InputError: it is larger than the memory of this machine.
    """
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # a system that does not tell
        return
    if n_bytes > there > 0:
        raise InputError(
            f"{source} needs {n_bytes:,} bytes of memory, and this machine has {there:,}: leave it "
            "out with obs_keys, or read fewer demos with filter_key or max_episodes"
        )
