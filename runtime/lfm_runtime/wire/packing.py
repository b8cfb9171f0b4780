"""Numpy arrays in msgpack, byte for byte as openpi's clients and servers write them.

An array is the map
``{b"__ndarray__": True, b"data": bytes, b"dtype": dtype.str, b"shape": sizes}``, a
numpy scalar ``{b"__npgeneric__": True, b"data": value, b"dtype": dtype.str}``. What the package
msgpack-numpy writes is read too: ``{b"nd": True, b"type": dtype.str, b"kind": b"", b"shape": sizes,
b"data": bytes}``, and ``{b"nd": False, b"type": dtype.str, b"data": bytes}`` for a scalar. Nothing
is ever unpickled. `unpackb` reads what anybody may have sent: what a message claims of itself is
compared with the bytes that are there before memory is asked for.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.wire.msgpack_reader import read_msgpack

MAXIMUM_RANK = 32

_ARRAY, _SCALAR, _ND = "__ndarray__", "__npgeneric__", "nd"
_MARKERS = frozenset({_ARRAY, _SCALAR, _ND, _ARRAY.encode(), _SCALAR.encode(), _ND.encode()})
_ARRAY_KEYS = {_ARRAY, "data", "dtype", "shape"}
_SCALAR_KEYS = {_SCALAR, "data", "dtype"}
_ND_ARRAY_KEYS = {_ND, "type", "kind", "shape", "data"}
_ND_SCALAR_KEYS = {_ND, "type", "data"}

# What `dtype.str` says of booleans, integers, floats, texts and times. Parsing anything else would
# reach numpy's little languages for structures (void), objects and complex numbers.
_DTYPE = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f(2|4|8|16)|[SU][0-9]{1,6}|[mM]8(\[[0-9a-zA-Z]{1,8}\])?)"
)
# What `numpy.generic.item` returns of a kind of dtype. An integer is the length of a text to numpy:
# 45 bytes would ask for gigabytes.
_SCALAR_TYPES: dict[str, tuple[type, ...]] = {
    "b": (bool,),
    "i": (int,),
    "u": (int,),
    "f": (float, int),
    "S": (bytes,),
    "U": (str,),
    "M": (int,),
    "m": (int,),
}


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
        InputError: not one whole msgpack value; nested or longer than the bounds of
            `lfm_runtime.wire.msgpack_reader`; an extension type; an array whose dtype is refused or
            whose shape does not fit its bytes.
    """
    try:
        return read_msgpack(message, _unpack_array)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    except (ValueError, TypeError, OverflowError) as error:  # a number that its dtype cannot hold
        raise InputError(f"{label}: not a numpy value: {str(error)[:200]}") from None


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
    """Return the array or scalar that a map describes; the map itself if it describes none."""
    if _MARKERS.isdisjoint(value):
        return value
    # Packers in languages without Python's two kinds of strings write the names as text.
    fields = {_text(key): item for key, item in value.items()}
    if len(fields) < len(value):
        raise InputError("an array names one of its fields twice, as text and as bytes")
    if _ARRAY in fields:
        _check_keys(fields, _ARRAY_KEYS, "an array")
        return _array(fields["data"], fields["dtype"], fields["shape"])
    if _SCALAR in fields:
        _check_keys(fields, _SCALAR_KEYS, "a numpy scalar")
        return _scalar(fields["data"], fields["dtype"])
    if fields[_ND] is True:
        # msgpack-numpy's kind is b"V" for structures and b"O" for pickles; old versions have none.
        _check_keys({"kind": b"", **fields}, _ND_ARRAY_KEYS, "an array")
        if fields.get("kind", b"") not in (b"", ""):
            raise InputError("an array is of objects or structures, which are refused")
        return _array(fields["data"], fields["type"], fields["shape"])
    if fields[_ND] is False:
        _check_keys(fields, _ND_SCALAR_KEYS, "a numpy scalar")
        return _array(fields["data"], fields["type"], [])[()]
    return value  # somebody's own "nd"


def _text(key: str | bytes) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _check_keys(found: Mapping[str, Any], expected: set[str], what: str) -> None:
    if found.keys() != expected:
        raise InputError(f"{what} has other keys than {', '.join(sorted(expected))}")


def _array(data: Any, dtype_name: Any, shape: Any) -> np.ndarray:
    dtype = _dtype(dtype_name)
    if not isinstance(data, bytes):
        raise InputError(f"an array's data are {type(data).__name__}, expected bytes")
    if not isinstance(shape, list) or len(shape) > MAXIMUM_RANK or not all(map(_is_size, shape)):
        raise InputError(
            f"an array's shape is {_shown(shape)}, expected a list of at most {MAXIMUM_RANK} sizes"
        )
    # Python's integers: no claim overflows.
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(data):
        raise InputError(
            f"an array of shape {str(tuple(shape))[:100]} and dtype {dtype} has {len(data):,} "
            f"bytes, expected {claimed:,}"[:300]
        )
    return np.ndarray(buffer=data, dtype=dtype, shape=tuple(shape))


def _scalar(data: Any, dtype_name: Any) -> np.generic:
    dtype = _dtype(dtype_name)
    expected = _SCALAR_TYPES[dtype.kind]
    if type(data) not in expected:
        raise InputError(
            f"a numpy scalar of dtype {dtype} has {type(data).__name__} as data, expected "
            f"{' or '.join(kind.__name__ for kind in expected)}"
        )
    scalar: np.generic = (
        # The type of times does not know their unit.
        np.array([data], dtype=dtype)[0] if dtype.kind in "mM" else dtype.type(data)
    )
    return scalar


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise InputError(
            f"an array's dtype is {_shown(name)}, expected numbers, texts or times as numpy "
            "writes them, such as '<f4': objects, structures and complex numbers are refused"
        )
    dtype = np.dtype(name)
    if dtype.itemsize == 0:
        raise InputError(f"an array's dtype is {name!r}, whose items have no bytes")
    return dtype


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _shown(value: Any) -> str:
    """Return a short text of something long: whoever sent it chose its length."""
    return reprlib.repr(value[:60] if isinstance(value, (str, bytes)) else value)[:100]
