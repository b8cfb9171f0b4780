"""A look into an ONNX file before ONNX Runtime opens it: nothing in it may reach out of it.

ONNX is protocol buffers. What is checked needs four of its message types, so that no package for
the rest has to be installed on a robot's computer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lfm_runtime.errors import InputError

MAXIMUM_BYTES = 1 << 31
"""What one protocol buffer can hold."""
MAXIMUM_NODES = 200_000
DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Where kinds of operation may come from: ONNX itself, and what ONNX Runtime brings along."""

# Field numbers of onnx.proto; a file's author cannot choose others.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATION, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_REFUSED = {6: "a graph", 11: "graphs", 22: "sparse numbers", 23: "sparse numbers"}
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_graph(content: bytes, path: Path) -> None:
    """Check that a graph keeps to itself.

    Raises:
        InputError: it is no ONNX model, keeps numbers in other files, brings functions or graphs
            within graphs, or uses operations of unknown origin; the message names ``path``.
    """
    try:
        _check_model(memoryview(content))
    except _RefusedError as error:
        raise InputError(
            f"{path}: {error}; exports of lfm-policy hold nothing like it: do not use this file"
        ) from None
    except _DamagedError as error:
        raise InputError(
            f"{path}: not an ONNX model, or a damaged one ({error}): copy the export again"
        ) from None


class _RefusedError(Exception):
    """The file says something that it must not."""


class _DamagedError(Exception):
    """The bytes are no protocol buffer."""


def _check_model(model: memoryview) -> None:
    graphs = 0
    for field, value in _fields(model):
        if field in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise _RefusedError("brings functions of its own")
        if field == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_message(value))
    if graphs != 1:
        raise _DamagedError(f"{graphs} graphs in it, expected 1")


def _check_graph(graph: memoryview) -> None:
    nodes = 0
    for field, value in _fields(graph):
        if field == _GRAPH_NODE:
            nodes += 1
            if nodes > MAXIMUM_NODES:
                raise _RefusedError(f"has more than {MAXIMUM_NODES:,} operations")
            _check_node(_message(value))
        elif field == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif field == _GRAPH_SPARSE:
            raise _RefusedError("has sparse numbers")


def _check_node(node: memoryview) -> None:
    domain = operation = ""
    for field, value in _fields(node):
        if field == _NODE_DOMAIN:
            domain = _text(value)
        elif field == _NODE_OPERATION:
            operation = _text(value)
        elif field == _NODE_ATTRIBUTE:
            _check_attribute(_message(value))
    if domain not in DOMAINS:
        raise _RefusedError(f"uses the custom operation {operation!a} of {domain!a}")


def _check_attribute(attribute: memoryview) -> None:
    for field, value in _fields(attribute):
        if field in _ATTRIBUTE_REFUSED:
            raise _RefusedError(f"has {_ATTRIBUTE_REFUSED[field]} within an operation")
        if field in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value))


def _check_tensor(tensor: memoryview) -> None:
    name, external = "", False
    for field, value in _fields(tensor):
        if field == _TENSOR_NAME:
            name = _text(value)
        elif field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value):
            external = True
    if external:
        raise _RefusedError(f"keeps the numbers of {name!a} in another file")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field; numbers of fixed size as 0, which nobody asks for."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        field, kind = key >> 3, key & 7
        value: int | memoryview = 0
        if kind == _VARINT:
            value, position = _varint(message, position)
        elif kind == _BYTES:
            size, position = _varint(message, position)
            value = message[position : position + size]
            position += size
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise _DamagedError(f"wire type {kind}")
        if position > end:
            raise _DamagedError("it ends in the middle of a field")
        yield field, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _DamagedError("it ends in the middle of a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _DamagedError("a number of more than 10 bytes")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _DamagedError("a number where a part was expected")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:200]).decode("utf-8", errors="replace")
