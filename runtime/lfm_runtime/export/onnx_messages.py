"""The message types of ONNX that an export is made of, by the field numbers of onnx.proto.

What is not listed is not in an export. Some of it is listed as refused, to be named in the error.
"""

from __future__ import annotations

from lfm_runtime.export.protobuf import Field, Kind, MessageType

_ENTRY = MessageType("an entry", {1: Field("key", Kind.TEXT), 2: Field("value", Kind.TEXT)})
_ENTRIES = Field("metadata_props", _ENTRY, repeated=True)
_DOC = Field("doc_string", Kind.TEXT)

_TENSOR = MessageType(
    "a tensor",
    {
        1: Field("dims", Kind.INT64, repeated=True),
        2: Field("data_type", Kind.INT32),
        4: Field("float_data", Kind.FLOATS),
        5: Field("int32_data", Kind.INTS),
        7: Field("int64_data", Kind.INTS),
        8: Field("name", Kind.TEXT),
        9: Field("raw_data", Kind.BYTES),
        12: _DOC,
        13: Field("external_data", _ENTRY, repeated=True),
        14: Field("data_location", Kind.INT32, highest=1),
        16: _ENTRIES,
    },
)

_INNER_GRAPH = Field("graphs", Kind.BYTES, refused="has a graph within an operation")
_INNER_SPARSE = Field("sparse", Kind.BYTES, refused="has sparse numbers within an operation")
_INNER_TYPE = Field("types", Kind.BYTES, refused="has a type within an operation")

_ATTRIBUTE = MessageType(
    "an attribute",
    {
        1: Field("name", Kind.TEXT),
        2: Field("f", Kind.FLOAT),
        3: Field("i", Kind.INT64),
        4: Field("s", Kind.BYTES),
        5: Field("t", _TENSOR),
        6: _INNER_GRAPH,
        7: Field("floats", Kind.FLOAT, repeated=True),
        8: Field("ints", Kind.INT64, repeated=True),
        9: Field("strings", Kind.BYTES, repeated=True),
        10: Field("tensors", _TENSOR, repeated=True),
        11: _INNER_GRAPH,
        13: _DOC,
        14: _INNER_TYPE,
        15: _INNER_TYPE,
        20: Field("type", Kind.INT32, highest=14),
        21: Field("ref_attr_name", Kind.TEXT, refused="has an attribute of a function"),
        22: _INNER_SPARSE,
        23: _INNER_SPARSE,
    },
)

_NODE = MessageType(
    "an operation",
    {
        1: Field("input", Kind.TEXT, repeated=True),
        2: Field("output", Kind.TEXT, repeated=True),
        3: Field("name", Kind.TEXT),
        4: Field("op_type", Kind.TEXT),
        5: Field("attribute", _ATTRIBUTE, repeated=True),
        6: _DOC,
        7: Field("domain", Kind.TEXT),
        8: Field("overload", Kind.TEXT, refused="uses a function"),
        9: _ENTRIES,
    },
)

_DIMENSION = MessageType(
    "a dimension",
    {
        1: Field("dim_value", Kind.INT64),
        2: Field("dim_param", Kind.TEXT),
        3: Field("denotation", Kind.TEXT),
    },
)
_SHAPE = MessageType("a shape", {1: Field("dim", _DIMENSION, repeated=True)})
_TENSOR_TYPE = MessageType(
    "a type of tensors", {1: Field("elem_type", Kind.INT32), 2: Field("shape", _SHAPE)}
)
_TYPE = MessageType(
    "a type", {1: Field("tensor_type", _TENSOR_TYPE), 6: Field("denotation", Kind.TEXT)}
)
_VALUE = MessageType(
    "a value", {1: Field("name", Kind.TEXT), 2: Field("type", _TYPE), 3: _DOC, 4: _ENTRIES}
)
_QUANTIZATION = MessageType(
    "a quantization",
    {
        1: Field("tensor_name", Kind.TEXT),
        2: Field("quant_parameter_tensor_names", _ENTRY, repeated=True),
    },
)

_GRAPH = MessageType(
    "the graph",
    {
        1: Field("node", _NODE, repeated=True),
        2: Field("name", Kind.TEXT),
        5: Field("initializer", _TENSOR, repeated=True),
        10: _DOC,
        11: Field("input", _VALUE, repeated=True),
        12: Field("output", _VALUE, repeated=True),
        13: Field("value_info", _VALUE, repeated=True),
        14: Field("quantization_annotation", _QUANTIZATION, repeated=True),
        15: Field("sparse_initializer", Kind.BYTES, refused="has sparse numbers"),
        16: _ENTRIES,
    },
)

_OPERATIONS = MessageType(
    "a set of operations", {1: Field("domain", Kind.TEXT), 2: Field("version", Kind.INT64)}
)
_OWN_FUNCTIONS = Field("functions", Kind.BYTES, refused="brings functions of its own")

MODEL = MessageType(
    "the model",
    {
        1: Field("ir_version", Kind.INT64),
        2: Field("producer_name", Kind.TEXT),
        3: Field("producer_version", Kind.TEXT),
        4: Field("domain", Kind.TEXT),
        5: Field("model_version", Kind.INT64),
        6: _DOC,
        7: Field("graph", _GRAPH),
        8: Field("opset_import", _OPERATIONS, repeated=True),
        14: _ENTRIES,
        20: _OWN_FUNCTIONS,
        25: _OWN_FUNCTIONS,
    },
)
