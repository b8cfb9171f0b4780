"""Numpy arrays in msgpack, byte for byte as openpi's clients and servers write them.

An array is the map
``{b"__ndarray__": True, b"data": bytes, b"dtype": dtype.str, b"shape": sizes}``, a
numpy scalar ``{b"__npgeneric__": True, b"data": value, b"dtype": dtype.str}``. Nothing is ever
unpickled. `unpackb` reads what anybody may have sent: what a message claims of itself is compared
with the bytes that are there before memory is asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from lfm_runtime.errors import InputError

MAXIMUM_DEPTH = 8
"""Maps and lists inside one another; an observation needs two."""
MAXIMUM_ITEMS = 4_096
"""Items of one map or list. Large data are arrays, not lists."""
MAXIMUM_RANK = 32

_ARRAY_KEYS = {b"__ndarray__", b"data", b"dtype", b"shape"}
_SCALAR_KEYS = {b"__npgeneric__", b"data", b"dtype"}
# What `dtype.str` says of booleans, integers, floats, texts and times. Parsing anything else would
# reach numpy's little languages for structures (void), objects and complex numbers.
_DTYPE = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f(2|4|8|16)|[SU][0-9]{1,6}|[mM]8(\[[0-9a-zA-Z]{1,8}\])?)"
)


def packb(value: Any) -> bytes:
    """Return a message.

    Args:
        value: (nested) dictionaries and lists of text, bytes, numbers, numpy arrays and scalars.

    Raises:
        InputError: an object, void or complex array, or something else msgpack cannot hold.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_pack_array)
    except (TypeError, OverflowError, ValueError) as error:
        raise InputError(f"a message cannot be packed: {error}") from None
    return packed


def unpackb(message: bytes, *, label: str = "message") -> Any:
    """Return what `packb` or openpi's packing wrote.

    Arrays look into ``message`` and are read-only.

    Args:
        message: the bytes of one message.
        label: what to call it in errors.

    Raises:
        InputError: not one whole msgpack value; nested or longer than the bounds of this module;
            an extension type; an array whose dtype is refused or whose shape does not fit its
            bytes.
    """
    try:
        value = msgpack.unpackb(
            message,
            object_hook=_unpack_array,
            # A list is made as long as it claims to be before its items are read, once per level.
            max_array_len=MAXIMUM_ITEMS,
            max_map_len=MAXIMUM_ITEMS,
            max_ext_len=0,
        )
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error)[:200] or type(error).__name__
        raise InputError(f"{label}: not a msgpack message: {reason}") from None
    _check_plain(value, label)
    return value


def _pack_array(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "VOc":
        raise InputError(
            f"an array of dtype {value.dtype} was found, expected numbers or texts: objects, "
            "structures and complex numbers are not sent"
        )
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise InputError(f"found {type(value).__name__}, which cannot be sent")


def _unpack_array(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        return _scalar(value)
    return value


def _array(value: Mapping[Any, Any]) -> np.ndarray:
    if set(value) != _ARRAY_KEYS:
        raise InputError("an array has other keys than __ndarray__, data, dtype and shape")
    dtype, data, shape = _dtype(value[b"dtype"]), value[b"data"], value[b"shape"]
    if not isinstance(data, bytes):
        raise InputError(f"an array's data are {type(data).__name__}, expected bytes")
    if not isinstance(shape, list) or len(shape) > MAXIMUM_RANK or not all(map(_is_size, shape)):
        raise InputError(
            f"an array's shape is {str(shape)[:100]}, expected a list of at most {MAXIMUM_RANK} "
            "sizes"
        )
    # Python's integers: no claim overflows.
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(data):
        raise InputError(
            f"an array of shape {str(tuple(shape))[:100]} and dtype {dtype} has {len(data):,} "
            f"bytes, expected {claimed:,}"[:300]
        )
    return np.ndarray(buffer=data, dtype=dtype, shape=tuple(shape))


def _scalar(value: Mapping[Any, Any]) -> np.generic:
    if set(value) != _SCALAR_KEYS:
        raise InputError("a numpy scalar has other keys than __npgeneric__, data and dtype")
    dtype, data = _dtype(value[b"dtype"]), value[b"data"]
    if not isinstance(data, (bool, int, float, str, bytes)):
        raise InputError(f"a numpy scalar's data are {type(data).__name__}, expected a number")
    scalar: np.generic = dtype.type(data)
    return scalar


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise InputError(
            f"an array's dtype is {str(name)[:60]!r}, expected numbers, texts or times as numpy "
            "writes them, such as '<f4': objects, structures and complex numbers are refused"
        )
    dtype = np.dtype(name)
    if dtype.itemsize == 0:
        raise InputError(f"an array's dtype is {name!r}, whose items have no bytes")
    return dtype


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _check_plain(value: Any, label: str) -> None:
    """Bound the depth and refuse msgpack's own types, without recursion."""
    level = [value]
    for _ in range(MAXIMUM_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, (msgpack.ExtType, msgpack.Timestamp)):
                raise InputError(f"{label}: found a msgpack extension, which is refused")
        if not below:
            return
        level = below
    raise InputError(f"{label}: is nested more than {MAXIMUM_DEPTH} deep")
