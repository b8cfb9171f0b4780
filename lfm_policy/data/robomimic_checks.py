"""What robomimic files are checked for, and how failures of HDF5 become messages."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from lfm_policy.errors import InputError

_FREE_BYTES = 2**20
_MAX_EXPANSION = 10_000
"""An array may be this many times larger than what the file holds of it (and the free bytes in any
case): more than any compression gives, so that only absurd metadata goes beyond."""

_COPY_AGAIN = "the file is truncated or damaged; copy it again"


def check_env_args(value: Any, source: str) -> dict[str, Any]:
    """Check a description of an environment.

    Args:
        value: parsed JSON.
        source: for messages.

    Returns:
        The same, see `lfm_policy.data.robomimic_file.read_env_args`.

    Raises:
        InputError: it is no object, or a part of it is absent or of another type.
    """
    if not isinstance(value, dict):
        raise InputError(f"{source} is {type(value).__name__}; expected an object")
    expected: Mapping[str, tuple[type, str]] = {
        "env_name": (str, "the name of the environment"),
        "type": (int, "a number; 1 is robosuite"),
        "env_kwargs": (dict, "an object: arguments of the environment"),
    }
    for key, (kind, meaning) in expected.items():
        if key not in value:
            raise InputError(f"{source} has no '{key}'; expected {meaning}")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise InputError(f"{source} has {key} {value[key]!r:.100}; expected {meaning}")
    if not isinstance(value.get("env_version", ""), str | None):
        raise InputError(f"{source} has env_version {value['env_version']!r:.100}; expected text")
    return value


def check_size(array: h5py.Dataset, source: str) -> None:
    """Check that the file can hold what the shape promises, because memory is taken for it.

    Raises:
        InputError: nothing was ever written, or far less than the shape says.
    """
    promised = math.prod(array.shape) * array.dtype.itemsize
    stored = array.id.get_storage_size()
    if promised and not stored:
        raise InputError(
            f"{source} promises shape {array.shape}, but no values were ever written: the "
            "recording was interrupted; drop this demo"
        )
    if promised > _FREE_BYTES + _MAX_EXPANSION * stored:
        raise InputError(
            f"{source} promises {promised:,} bytes (shape {array.shape}), which the {stored:,} "
            f"bytes in the file cannot hold: {_COPY_AGAIN}"
        )


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


def as_text(value: Any) -> str:
    """Return an attribute or an element of a list of names as text.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} instead of text")


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn failures of HDF5 into an :class:`InputError`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{source} cannot be read ({brief(error)}): {_COPY_AGAIN}") from error


def brief(error: Exception) -> str:
    """Return kind and first line of an error of a library, at most 200 characters of it."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
