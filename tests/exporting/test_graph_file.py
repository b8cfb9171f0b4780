"""Graphs that two parsers could read differently, and those that reach out of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfm_policy.policy import Policy
from lfm_runtime import InputError
from lfm_runtime.export import graph_file
from lfm_runtime.export.graph_file import DOMAINS, MAXIMUM_NODES, MAXIMUM_VALUES, check_graph
from lfm_runtime.export.onnx_messages import MODEL
from lfm_runtime.export.protobuf import EncodingError, RefusedError, read_message

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
from onnx import AttributeProto, TensorProto, helper, numpy_helper  # noqa: E402
from onnx.onnx_cpp2py_export import shape_inference  # noqa: E402

NAME = Path("policy.onnx")
VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5


def varint(value: int, *, size: int = 0) -> bytes:
    """Return a number as protocol buffers have it, with zeros at its end up to ``size`` bytes."""
    octets = [value & 0x7F]
    while (value := value >> 7) or len(octets) < size:
        octets.append(value & 0x7F)
    return bytes(octet | 0x80 for octet in octets[:-1]) + bytes(octets[-1:])


def field(number: int, content: bytes | int, *, wire_type: int | None = None) -> bytes:
    """Return a field with a number or with bytes of any length."""
    if isinstance(content, int):
        return varint(number << 3 | (wire_type or VARINT)) + varint(content)
    return varint(number << 3 | (BYTES if wire_type is None else wire_type)) + (
        varint(len(content)) + content
    )


def as_onnx_runtime_reads(content: bytes) -> Any:
    """Return a model as the parser of C++ reads it, which is ONNX Runtime's too."""
    return onnx.ModelProto.FromString(shape_inference.infer_shapes(content, False, False, False))


def check(content: bytes) -> None:
    check_graph(content, NAME)


def refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check(content)
    assert str(error.value).startswith("policy.onnx: ")


@pytest.fixture(scope="module")
def content(exported: tuple[Policy, Path]) -> bytes:
    return (exported[1] / "policy.onnx").read_bytes()


@pytest.fixture
def model(content: bytes) -> Any:
    return onnx.ModelProto.FromString(content)


# -- what is accepted ------------------------------------------------------------------------------


def test_what_export_writes_and_what_onnx_makes_of_it(content: bytes, tmp_path: Path) -> None:
    check(content)
    onnx.save(onnx.ModelProto.FromString(content), str(tmp_path / "again.onnx"))
    check((tmp_path / "again.onnx").read_bytes())


def test_words_about_a_graph_do_no_harm(model: Any) -> None:
    model.doc_string = "é"
    for part in (model, model.graph, model.graph.node[0], model.graph.initializer[0]):
        part.metadata_props.add(key="author", value="someone")
    annotation = model.graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    model.graph.node.append(
        helper.make_node("Constant", [], ["unused"], value_ints=[1, -1, 1 << 40])
    )
    model.graph.initializer.append(
        helper.make_tensor("row", TensorProto.INT64, [3], [0, -1, (1 << 63) - 1])
    )
    check(model.SerializeToString())


# -- encodings that two parsers could read differently ---------------------------------------------


def parts(model: Any) -> tuple[bytes, bytes]:
    """Return what stands around a graph, and the graph."""
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString(), graph


def test_a_tag_whose_upper_bits_the_parser_of_onnx_runtime_drops(model: Any) -> None:
    location = str(Path("..") / "secret")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    name = tensor.name
    hidden = field(14 | 1 << 29, 1) + b"".join(
        varint((13 << 3 | BYTES) | 1 << 32) + varint(len(entry)) + entry
        for entry in [field(1, b"location") + field(2, location.encode())]
    )
    whole = tensor.SerializeToString()
    del model.graph.initializer[0]
    around, graph = parts(model)
    attack = around + field(7, graph + field(5, whole + hidden))

    seen = as_onnx_runtime_reads(attack).graph.initializer[-1]
    assert (seen.name, seen.data_location) == (name, TensorProto.EXTERNAL)
    assert seen.external_data[0].value == location
    refused(attack, "has an unknown field 536870926 in a tensor")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: varint(7 << 3 | BYTES, size=3) + varint(len(g)) + g, "longer than it has to be"),
        (lambda g: varint(7 << 3 | BYTES) + varint(len(g), size=9) + g, "longer than it has to be"),
        (lambda g: varint(7 << 3 | BYTES | 1 << 32) + varint(len(g)) + g, "an unknown field 5368"),
        (lambda g: field(7, g) + field(7, b""), "the model has graph twice"),
        (lambda g: field(1, 10) + field(7, g), "the model has ir_version twice"),
        (lambda g: field(7, g) + varint(7 << 3 | START_GROUP), "field 7 of wire type 3"),
        (lambda g: field(7, g) + varint(7 << 3 | END_GROUP), "field 7 of wire type 4"),
        (lambda g: field(7, g) + varint(1 << 3 | 6) + b"\0", "field 1 of wire type 6"),
        (lambda g: field(7, g) + varint(1 << 3 | 7) + b"\0", "field 1 of wire type 7"),
        (lambda g: field(7, g) + field(0, 1), "field 0 of wire type 0"),
        (lambda g: field(7, g) + field(99, 1), "an unknown field 99 in the model"),
        (lambda g: field(7, g) + varint(7 << 3) + varint(1), "graph of the model has the wire t"),
        (lambda g: varint(7 << 3 | FIXED32) + bytes(4), "graph of the model has the wire type 5"),
        (lambda g: varint(7 << 3 | FIXED64) + bytes(8), "graph of the model has the wire type 1"),
        (lambda g: field(7, g) + field(6, b"\xff"), "doc_string is not UTF-8"),
        (lambda g: field(7, g) + field(6, b"\xed\xa0\x80"), "doc_string is not UTF-8"),
        (lambda g: field(7, g) + b"\x28" + b"\xff" * 10 + b"\x01", "a number of more than 10 byt"),
        (lambda g: field(7, g) + b"\x28" + b"\xff" * 9 + b"\x02", "longer than it has to be"),
        (lambda g: varint(7 << 3 | BYTES) + varint(len(g) + 1) + g, "ends in the middle of graph"),
        (lambda g: field(7, g) + b"\x32\xff\xff\xff\xff\x0f", "ends in the middle of doc_string"),
        (lambda g: b"", "no graph in it"),
        (
            lambda g: field(7, g + field(13, field(2, field(4, b"")))),
            "an unknown field 4 in a type",
        ),
        (lambda g: field(7, g + field(5, field(2, 1 << 32 | 1))), "data_type is 4294967297, expec"),
        (lambda g: field(7, g + field(5, field(2, 1) + field(2, 1))), "a tensor has data_type twi"),
        (lambda g: field(7, g + field(5, field(14, 0) + field(14, 1))), "has data_location twice"),
        (lambda g: field(7, g + field(5, field(14, 2))), "data_location is 2, expected at most 1"),
        (lambda g: field(7, g + field(5, field(4, b"abc"))), "float_data has 3 bytes"),
        (lambda g: field(7, g + field(5, field(7, b"\x80"))), "int64_data is not a row of numbers"),
        (lambda g: field(7, g + field(5, field(7, b"\x80\0"))), "int64_data is not a row of"),
        (lambda g: field(7, g + field(5, field(1, b"\1\2"))), "dims of a tensor has the wire type"),
        (lambda g: field(7, g + field(5, field(3, b""))), "an unknown field 3 in a tensor"),
        (
            lambda g: field(7, g + field(11, field(2, field(1, field(2, field(1, dimension)))))),
            "a dimension with a number and a name",
        ),
    ],
)
def test_encodings(model: Any, make: Any, message: str) -> None:
    around, graph = parts(model)
    check(around + field(7, graph))
    refused(around + make(graph), message)


dimension = field(1, 3) + field(2, b"batch")


def test_a_mark_of_another_format_of_onnx_runtime(model: Any) -> None:
    """ONNX Runtime tells its own format by four bytes, which may also be part of a text."""
    around, graph = parts(model)
    text = b"ORTM" + bytes(1 << 14)
    attack = field(6, text) + around + field(7, graph)
    assert attack[4:8] == b"ORTM"
    assert len(as_onnx_runtime_reads(attack).graph.node)
    refused(attack, "has the mark of another format than ONNX")


# -- what no export has ----------------------------------------------------------------------------


def external(name: str = "t") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.external_data.add(key="location", value="../secret")
    return tensor


def test_parts_that_reach_out_of_the_graph(content: bytes) -> None:
    def changed() -> Any:
        return onnx.ModelProto.FromString(content)

    inner = helper.make_graph([], "inner", [], [], initializer=[external()])
    for message, attributes in {
        "keeps the numbers of 't' in another file": {"value": external()},
        "has a graph within an operation": {"body": inner},
        "has sparse numbers within an operation": {"sparse_value": onnx.SparseTensorProto()},
        "has a type within an operation": {"tp": onnx.TypeProto()},
    }.items():
        model = changed()
        model.graph.node.append(helper.make_node("Constant", [], ["unused"], **attributes))
        refused(model.SerializeToString(), message)

    for kind, key, value in (
        (AttributeProto.TENSORS, "tensors", external()),
        (AttributeProto.GRAPHS, "graphs", inner),
        (AttributeProto.SPARSE_TENSORS, "sparse_tensors", onnx.SparseTensorProto()),
    ):
        model = changed()
        attribute = model.graph.node[0].attribute.add(name="many", type=kind)
        getattr(attribute, key).append(value)
        refused(model.SerializeToString(), "another file|within an operation")

    model = changed()
    model.graph.node[0].attribute.add(name="a", ref_attr_name="b", type=AttributeProto.INT)
    refused(model.SerializeToString(), "has an attribute of a function")

    model = changed()
    model.graph.node[0].overload = "other"
    refused(model.SerializeToString(), "uses a function")

    model = changed()
    model.training_info.add()
    refused(model.SerializeToString(), "brings functions of its own")

    model = changed()
    model.metadata_props.add(key="ort_config", value="{}")
    refused(model.SerializeToString(), "sets options of the session")

    # Without a place in a file, and in memory.
    for location in ("", "*/_ORT_MEM_ADDR_/*"):
        model = changed()
        model.graph.initializer[0].external_data.add(key="location", value=location)
        refused(model.SerializeToString(), "in another file")


@pytest.mark.parametrize("operation", ["If", "Loop", "Scan", "SequenceMap", "EPContext"])
def test_operations_that_run_what_is_elsewhere(model: Any, operation: str) -> None:
    model.graph.node.append(helper.make_node(operation, [], ["unused"]))
    refused(model.SerializeToString(), f"uses the operation {operation}")


@pytest.mark.parametrize("domain", ["my.company", "ai.onnx\0", "AI.ONNX", "ai.onnx.ml"])
def test_operations_of_others(model: Any, domain: str) -> None:
    model.graph.node[0].domain = domain
    refused(model.SerializeToString(), "uses the custom operation '.*' of '")


def test_many_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes two bytes in a file takes hundreds in memory."""
    refused(field(7, b"\x0a\0" * (MAXIMUM_NODES + 1)), "has more than 200,000 operations")
    monkeypatch.setattr(graph_file, "MAXIMUM_VALUES", 1000)
    check(field(7, b"\x2a\0" * 999))
    refused(field(7, b"\x2a\0" * 1000), "has more than 1,000 values")


# -- any change of any file ------------------------------------------------------------------------


def seen_by_the_check(content: bytes) -> dict[str, Any]:
    graph = read_message(memoryview(content), MODEL, most_values=MAXIMUM_VALUES)["graph"]
    return {
        "nodes": [
            (
                node.get("domain", ""),
                node.get("op_type", ""),
                node.get("input", []),
                node.get("output", []),
                [attribute.get("name", "") for attribute in node.get("attribute", ())],
            )
            for node in graph.get("node", ())
        ],
        "numbers": [
            (tensor.get("name", ""), bytes(tensor.get("raw_data", b"")))
            for tensor in graph.get("initializer", ())
        ],
    }


def seen_by_onnx_runtime(model: Any) -> dict[str, Any]:
    return {
        "nodes": [
            (
                node.domain,
                node.op_type,
                list(node.input),
                list(node.output),
                [attribute.name for attribute in node.attribute],
            )
            for node in model.graph.node
        ],
        "numbers": [(tensor.name, tensor.raw_data) for tensor in model.graph.initializer],
    }


def assert_keeps_to_itself(model: Any) -> None:
    assert not model.functions and not model.training_info
    assert not model.graph.sparse_initializer
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        assert node.domain in DOMAINS and node.op_type not in ("If", "Loop", "Scan")
        for attribute in node.attribute:
            assert not attribute.HasField("g") and not attribute.graphs
            assert not attribute.HasField("sparse_tensor") and not attribute.sparse_tensors
            tensors += [attribute.t, *attribute.tensors]
    for tensor in tensors:
        assert not tensor.external_data and tensor.data_location == TensorProto.DEFAULT


@pytest.fixture(scope="module")
def small() -> bytes:
    """Return a model of a kind that has much structure and few weights."""
    weights = numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(2, 2), "w")
    packed = helper.make_tensor("p", TensorProto.INT64, [2], [1, -1])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2), "o")),
        helper.make_node("Transpose", ["y"], ["z"], perm=[1, 0]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xz"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializer=[weights, packed])
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


OCTETS = st.one_of(
    st.binary(min_size=1, max_size=8),
    # Tags and lengths in longer forms than they need.
    st.builds(
        lambda tag, high, size: varint(tag | high << 32, size=size),
        st.integers(0, 255),
        st.integers(0, 3),
        st.integers(1, 10),
    ),
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_what_is_accepted_is_what_onnx_runtime_reads(small: bytes, data: st.DataObject) -> None:
    content = small
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        content = content[:position] + data.draw(OCTETS) + content[position + length :]
    try:
        check(content)
    except InputError:
        return
    try:
        model = as_onnx_runtime_reads(content)
    except Exception:
        return  # ONNX Runtime does not open it either
    assert seen_by_the_check(content) == seen_by_onnx_runtime(model)
    assert_keeps_to_itself(model)


@given(
    st.lists(
        st.one_of(
            st.integers(0, (1 << 64) - 1).map(varint),
            st.builds(varint, st.integers(0, (1 << 64) - 1), size=st.integers(1, 10)),
            st.binary(max_size=12),
        ),
        max_size=4,
    ).map(b"".join)
)
def test_rows_of_numbers_are_taken_as_single_ones_are(row: bytes) -> None:
    """Rows are checked as a whole, single numbers one by one: both by the same rule."""
    singles, rest = b"", row
    while rest:
        end = next((i for i, octet in enumerate(rest) if octet < 0x80), len(rest) - 1) + 1
        singles += varint(1 << 3) + rest[:end]
        rest = rest[end:]
    assert accepted(field(5, singles)) == accepted(field(5, field(7, row)))


def accepted(graph: bytes) -> bool:
    try:
        read_message(memoryview(field(7, graph)), MODEL, most_values=100)
    except (EncodingError, RefusedError):
        return False
    return True
