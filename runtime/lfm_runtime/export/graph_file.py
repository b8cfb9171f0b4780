"""A look into an ONNX file before ONNX Runtime opens it: nothing in it may reach out of it.

ONNX is protocol buffers. What is checked is read by a strict reader of the few message types that
an export has, so that no package for the rest has to be installed on a robot's computer, and so
that ONNX Runtime cannot read the same bytes as something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lfm_runtime.errors import InputError
from lfm_runtime.export.onnx_messages import MODEL
from lfm_runtime.export.protobuf import EncodingError, RefusedError, read_message

MAXIMUM_BYTES = 1 << 31
"""What one protocol buffer can hold."""
MAXIMUM_NODES = 200_000
MAXIMUM_VALUES = 5_000_000
"""All names, numbers and settings of a graph; weights count as one each."""
DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Where kinds of operation may come from: ONNX itself, and what ONNX Runtime brings along."""

REFUSED_OPERATIONS = (
    *("If", "Loop", "Scan", "SequenceMap"),
    *("EPContext", "PythonOp", "PythonOpGrad"),
)
"""They run graphs within graphs, which may never end, and what lies in other files."""

_OTHER_FORMAT = b"ORTM"
"""At byte 4 of ONNX Runtime's own format, by which it tells that from ONNX."""
_SESSION_OPTIONS = "ort_config"
"""Name of metadata in which a file sets options of the session that opens it."""


def check_graph(content: bytes, path: Path) -> None:
    """Check that a graph keeps to itself.

    Raises:
        InputError: it is no ONNX model, is encoded in a way that two parsers could read
            differently, keeps numbers in other files, brings functions or graphs within graphs, or
            uses operations of unknown origin; the message names ``path``.
    """
    try:
        if content[4:8] == _OTHER_FORMAT:
            raise RefusedError("has the mark of another format than ONNX")
        _check_model(read_message(memoryview(content), MODEL, most_values=MAXIMUM_VALUES))
    except RefusedError as error:
        raise InputError(
            f"{path}: {error}; exports of lfm-policy hold nothing like it: do not use this file"
        ) from None
    except EncodingError as error:
        raise InputError(
            f"{path}: not an ONNX model, or a damaged one ({error}): copy the export again"
        ) from None


def _check_model(model: Mapping[str, Any]) -> None:
    if "graph" not in model:
        raise EncodingError("no graph in it")
    if any(entry.get("key") == _SESSION_OPTIONS for entry in model.get("metadata_props", ())):
        raise RefusedError("sets options of the session that opens it")
    graph = model["graph"]
    nodes = graph.get("node", ())
    if len(nodes) > MAXIMUM_NODES:
        raise RefusedError(f"has more than {MAXIMUM_NODES:,} operations")
    for node in nodes:
        _check_node(node)
    for tensor in graph.get("initializer", ()):
        _check_tensor(tensor)
    for key in ("input", "output", "value_info"):
        for value in graph.get(key, ()):
            _check_value(value)


def _check_node(node: Mapping[str, Any]) -> None:
    domain, operation = node.get("domain", ""), node.get("op_type", "")
    if domain not in DOMAINS:
        raise RefusedError(f"uses the custom operation {operation[:200]!a} of {domain[:200]!a}")
    if operation in REFUSED_OPERATIONS:
        raise RefusedError(f"uses the operation {operation}")
    for attribute in node.get("attribute", ()):
        for tensor in attribute.get("tensors", ()):
            _check_tensor(tensor)
        _check_tensor(attribute.get("t", {}))


def _check_tensor(tensor: Mapping[str, Any]) -> None:
    if tensor.get("external_data") or tensor.get("data_location", 0):
        raise RefusedError(f"keeps the numbers of {tensor.get('name', '')[:200]!a} in another file")


def _check_value(value: Mapping[str, Any]) -> None:
    shape = value.get("type", {}).get("tensor_type", {}).get("shape", {})
    # The later one counts, which is for a parser to know.
    if any("dim_value" in dim and "dim_param" in dim for dim in shape.get("dim", ())):
        raise EncodingError("a dimension with a number and a name")
