"""Reading msgpack that anybody may have written: memory follows what is there, not what is claimed.

`msgpack.unpackb` makes a list as long as it claims to be before it reads the items, in every level,
and a map of 64 bytes of every byte that says "empty map". Here the headers are read one by one, and
counted before anything is made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from lfm_runtime.errors import InputError

MAXIMUM_DEPTH = 8
"""Maps and lists inside one another; an observation needs three."""
MAXIMUM_ITEMS = 4_096
"""Items of one map or list. Large data are arrays, not lists."""
MAXIMUM_VALUES = 16_384
"""Keys and values of a message, those of all its maps and lists together."""
_CONTAINER_COSTS = 8
"""Values that a map or list counts as, besides its own: it takes the time and memory of so many,
and thousands of them make Python's garbage collector look through all of the process."""

OnMap = Callable[[dict[Any, Any]], Any]
"""From a map with text and bytes as keys to what stands for it."""


_MAP, _LIST, _TEXT, _EXTENSION, _OTHER = "map", "list", "text", "extension", "other"


def _kind(first: int) -> str:
    """Return what a value is that begins with this byte, as msgpack's specification says."""
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return _MAP
    if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        return _LIST
    if 0xA0 <= first <= 0xBF or 0xD9 <= first <= 0xDB or 0xC4 <= first <= 0xC6:
        return _TEXT  # or bytes
    if 0xC7 <= first <= 0xC9 or 0xD4 <= first <= 0xD8:
        return _EXTENSION
    return _OTHER


_KINDS = tuple(map(_kind, range(256)))


def read_msgpack(message: bytes, on_map: OnMap) -> Any:
    """Return the value that a message holds.

    Args:
        message: one whole msgpack value.
        on_map: called with every map, inner ones first.

    Raises:
        InputError: not one whole msgpack value; nested or longer than the bounds of this module;
            an extension type; a key that is neither text nor bytes.
    """
    reader = _Reader(message, on_map)
    try:
        value = reader.read(0)
    except msgpack.OutOfData:
        raise InputError("not a msgpack message: it ends too early") from None
    except (ValueError, msgpack.UnpackException) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error)[:200] or type(error).__name__
        raise InputError(f"not a msgpack message: {reason}") from None
    if reader.position() != len(message):
        raise InputError(
            f"not a msgpack message: {len(message) - reader.position():,} bytes follow its end"
        )
    return value


class _Reader:
    def __init__(self, message: bytes, on_map: OnMap) -> None:
        self._message = message
        self._on_map = on_map
        self._values = 1
        # 0 would be taken for "no bound".
        self._unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(message)))
        self._unpacker.feed(message)
        self.position: Callable[[], int] = self._unpacker.tell
        self._leaf: Callable[[], Any] = self._unpacker.unpack

    def read(self, depth: int) -> Any:
        """Return the next value, which lies in ``depth`` maps and lists."""
        kind = _KINDS[self._first()]
        if kind is _MAP:
            n_items = self._unpacker.read_map_header()
            self._count(n_items, 2 * n_items, depth)
            return self._on_map({self._key(): self.read(depth + 1) for _ in range(n_items)})
        if kind is _LIST:
            n_items = self._unpacker.read_array_header()
            self._count(n_items, n_items, depth)
            return [self.read(depth + 1) for _ in range(n_items)]
        if kind is _EXTENSION:
            raise InputError("found a msgpack extension, which is refused")
        return self._leaf()

    def _first(self) -> int:
        """Return the byte that the next value begins with."""
        try:
            return self._message[self.position()]
        except IndexError:
            raise msgpack.OutOfData from None

    def _key(self) -> str | bytes:
        if _KINDS[self._first()] is not _TEXT:
            raise InputError("a key of a map is neither text nor bytes")
        key: str | bytes = self._leaf()
        return key

    def _count(self, n_items: int, n_values: int, depth: int) -> None:
        if depth >= MAXIMUM_DEPTH:
            raise InputError(f"is nested more than {MAXIMUM_DEPTH} deep")
        if n_items > MAXIMUM_ITEMS:
            raise InputError(
                f"a map or list has {n_items:,} items, expected at most {MAXIMUM_ITEMS:,}; large "
                "data are sent as arrays"
            )
        self._values += _CONTAINER_COSTS + n_values
        if self._values > MAXIMUM_VALUES:
            raise InputError(
                f"holds more than {MAXIMUM_VALUES:,} values; large data are sent as arrays"
            )
