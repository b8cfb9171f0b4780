"""Graphs with smaller numbers.

``fp16`` keeps weights in half precision and widens them once, when the graph is opened: ONNX
Runtime's CPU kernels compute in float32 either way, and a graph converted to half precision as a
whole was no faster and a hundred times less exact. ``int8`` rounds the weights of matrix products
to 8 bits and their inputs too, on a scale chosen for each input when it is there.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lfm_policy.errors import InputError
from lfm_policy.exporting.graph import errors_only
from lfm_runtime.disk.files import temporary_folder

SMALLEST_HALF = 256
"""Tensors with fewer numbers stay float32: limits and scales, where digits count and bytes do
not."""
_HALF = "_half"


def with_precision(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Return a graph in ``fp32`` (unchanged), ``fp16`` or ``int8``.

    Raises:
        InputError: a weight does not fit into half precision.
    """
    if precision == "fp16":
        return _with_half_weights(model)
    if precision == "int8":
        return _with_byte_products(model)
    return model


def _with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    casts = []
    for tensor in smaller.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype != np.float32 or numbers.size < SMALLEST_HALF:
            continue
        name = tensor.name
        with np.errstate(over="ignore"):
            half = numbers.astype(np.float16)
        if not np.isfinite(half).all():
            raise InputError(
                f"the weights '{name}' have numbers beyond 65504, which half precision cannot "
                "hold: choose --precision fp32 or int8"
            )
        tensor.CopyFrom(numpy_helper.from_array(half, name + _HALF))
        casts.append(helper.make_node("Cast", [name + _HALF], [name], to=TensorProto.FLOAT))
    for cast in casts:
        smaller.graph.node.insert(0, cast)
    return smaller


def _with_byte_products(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It recommends a preparation of the graph that torch's exporter has done already.
    with errors_only(logging.getLogger()), temporary_folder() as folder:
        path = folder / "int8.onnx"
        quantize_dynamic(
            _without_gemm(model), path, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8
        )
        return onnx.load_model(str(path))


def _without_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with every product ``x W^T + b``, or without b, as MatMul and Add.

    ONNX Runtime's quantization does that too, but transposes a weight once more for every node
    that uses it, and a sampler of several steps uses each as often.

    Raises:
        ValueError: a Gemm is not of this form; torch's exporter writes no other.
    """
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in plain.graph.initializer}
    nodes, transposed = [], {}
    for node in plain.graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        x, weight, *bias = node.input  # the exporter leaves out a bias of zeros
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        known = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        if weight not in weights or known | options != known:
            raise ValueError(f"the node '{node.name}' is a Gemm with {options}")
        if weight not in transposed:
            array = np.ascontiguousarray(numpy_helper.to_array(weights[weight]).T)
            transposed[weight] = numpy_helper.from_array(array, f"{weight}_transposed")
        (y,) = node.output
        product = f"{y}_product" if bias else y
        nodes.append(helper.make_node("MatMul", [x, transposed[weight].name], [product], node.name))
        if bias:
            nodes.append(helper.make_node("Add", [product, *bias], [y], f"{node.name}_bias"))
    del plain.graph.node[:]
    plain.graph.node.extend(nodes)
    plain.graph.initializer.extend(transposed.values())
    used = {name for node in nodes for name in node.input}
    for tensor in [t for t in plain.graph.initializer if t.name not in used]:
        plain.graph.initializer.remove(tensor)
    return plain
