"""Actions that a robot is already committed to, given to a policy that continues them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lfm_runtime.errors import InputError


def padded_prefix(
    prefix: Any, *, n_rows: int, max_prefix: int, action_dim: int, dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """Return a prefix in the shape that a policy takes, and which of its actions are there.

    Args:
        prefix: (n_rows, d, action_dim) with d at most ``max_prefix``, in the robot's units; None
            stands for d = 0.
        n_rows: rows of the batch.
        max_prefix: longest prefix that the policy was trained with.
        action_dim: numbers in one action.
        dtype: of the actions, see `DataSpec.dtype`.

    Returns:
        (n_rows, max_prefix, action_dim) of ``dtype``, the prefix and then zeros; and
        (n_rows, max_prefix) float32, 1 where there is an action.

    Raises:
        InputError: it has another shape, is too long, or is not finite.
    """
    values = np.zeros((n_rows, max_prefix, action_dim), dtype=dtype)
    mask = np.zeros((n_rows, max_prefix), dtype=np.float32)
    if prefix is None:
        return values, mask
    given = np.asarray(prefix)
    if given.dtype.kind not in "fiu" or given.ndim != 3 or given.shape[::2] != (n_rows, action_dim):
        raise InputError(
            f"prefix has shape {given.shape} and dtype {given.dtype}, expected numbers of shape "
            f"({n_rows}, d, {action_dim}): batch, actions, one action"
        )
    length = given.shape[1]
    if length > max_prefix:
        raise InputError(
            f"prefix has {length} actions, but the policy was trained with at most {max_prefix}; "
            "give fewer, or train with a larger policy.max_prefix"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        values[:, :length] = given
    if not np.isfinite(values).all():
        raise InputError("prefix contains NaN or infinity")
    mask[:, :length] = 1
    return values, mask
