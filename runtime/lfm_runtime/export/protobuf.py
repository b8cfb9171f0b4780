"""Protocol buffers that every parser reads alike, and only those.

The format leaves room: numbers may be longer than they need be, a single value may be there twice,
unknown fields are skipped. Where two parsers use that room differently, one of them checks another
file than the other opens. What is read here has the one encoding that writers choose, and no field
that the caller does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

_INT32_END, _INT64_END = 1 << 31, 1 << 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class Kind(Enum):
    """What a field holds, and so how it is encoded."""

    INT32 = "a number from 0 to 2^31 - 1"
    INT64 = "a number of 64 bits"
    FLOAT = "a float"
    TEXT = "UTF-8"
    BYTES = "bytes"
    FLOATS = "floats in one piece"
    INTS = "numbers in one piece"


_WIRE_TYPES = {Kind.INT32: _VARINT, Kind.INT64: _VARINT, Kind.FLOAT: _FIXED32}


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: what its values are called in what is read.
        kind: what it holds; a type of message for one within the message.
        repeated: whether there may be more than one.
        highest: of an `INT32`.
        refused: why no file may have it; empty where it may.
    """

    name: str
    kind: Kind | MessageType
    repeated: bool = False
    highest: int = _INT32_END - 1
    refused: str = ""

    @property
    def wire_type(self) -> int:
        """How it is encoded."""
        return _BYTES if isinstance(self.kind, MessageType) else _WIRE_TYPES.get(self.kind, _BYTES)


@dataclass(frozen=True)
class MessageType:
    """A type of message: its name, for errors, and its fields by number.

    Types refer to one another but not to themselves, so that nothing is nested without end.
    """

    name: str
    fields: Mapping[int, Field]


class RefusedError(Exception):
    """The file holds something that it must not."""


class EncodingError(Exception):
    """The bytes are no protocol buffer, or one that two parsers could read differently."""


def read_message(content: memoryview, kind: MessageType, *, most_values: int) -> dict[str, Any]:
    """Return the values by name: a list for every repeated field; those that are not there are not.

    Floats and bytes are given as the bytes they are.

    Args:
        content: all of it is the message.
        kind: of message.
        most_values: that there may be, those of messages within it included.

    Raises:
        EncodingError: the bytes are no such message, or not encoded as writers do.
        RefusedError: a field is not known, or one of those that no file may have; or there are more
            values.
    """
    return _Reader(most_values).message(content, kind)


class _Reader:
    """Counts what it reads."""

    def __init__(self, most_values: int) -> None:
        self._most, self._count = most_values, 0

    def message(self, content: memoryview, kind: MessageType) -> dict[str, Any]:
        values: dict[str, Any] = {}
        position, end = 0, len(content)
        while position < end:
            self._count += 1
            if self._count > self._most:
                raise RefusedError(f"has more than {self._most:,} values")
            key, position = _varint(content, position)
            field = _field(kind, key)
            value, position = self._value(content, position, field)
            if field.repeated:
                values.setdefault(field.name, []).append(value)
            elif field.name in values:
                raise EncodingError(f"{kind.name} has {field.name} twice")
            else:
                values[field.name] = value
        return values

    def _value(self, content: memoryview, position: int, field: Field) -> tuple[Any, int]:
        if field.wire_type == _VARINT:
            number, position = _varint(content, position)
            if field.kind is Kind.INT32 and number > field.highest:
                raise EncodingError(f"{field.name} is {number}, expected at most {field.highest}")
            return number, position
        size = 4
        if field.wire_type == _BYTES:
            size, position = _varint(content, position)
        if size > len(content) - position:
            raise EncodingError(f"it ends in the middle of {field.name}")
        value, position = content[position : position + size], position + size
        if isinstance(field.kind, MessageType):
            return self.message(value, field.kind), position
        return _checked(value, field), position


def _field(kind: MessageType, key: int) -> Field:
    number, wire_type = key >> 3, key & 7
    if not number or wire_type not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
        raise EncodingError(f"a field {number} of wire type {wire_type} in {kind.name}")
    field = kind.fields.get(number)
    if field is None:
        raise RefusedError(f"has an unknown field {number} in {kind.name}")
    if field.refused:
        raise RefusedError(field.refused)
    if wire_type != field.wire_type:
        raise EncodingError(f"{field.name} of {kind.name} has the wire type {wire_type}")
    return field


def _checked(value: memoryview, field: Field) -> str | memoryview:
    if field.kind is Kind.TEXT:
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            raise EncodingError(f"{field.name} is not UTF-8") from None
    if field.kind is Kind.FLOATS and len(value) % 4:
        raise EncodingError(f"{field.name} has {len(value)} bytes, expected a multiple of 4")
    if field.kind is Kind.INTS and not _are_varints(value):
        raise EncodingError(f"{field.name} is not a row of numbers")
    return value


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count in range(_LONGEST_VARINT):
        if position >= len(content):
            raise EncodingError("it ends in the middle of a number")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >= _INT64_END or (count and not byte):
                raise EncodingError("a number that is longer than it has to be")
            return value, position
    raise EncodingError("a number of more than 10 bytes")


def _are_varints(content: memoryview) -> bool:
    """Whether bytes are numbers one after the other, each no longer than it has to be."""
    if not len(content):
        return True
    octets = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if not len(ends) or ends[-1] != len(octets) - 1:
        return False
    lengths = np.diff(ends, prepend=-1)
    longest = lengths == _LONGEST_VARINT
    padded = (octets[ends] == 0) & (lengths > 1)
    return bool(lengths.max() <= _LONGEST_VARINT and not padded.any()) and bool(
        (octets[ends[longest]] == 1).all()
    )
