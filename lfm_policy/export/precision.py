"""Graphs with smaller numbers.

``fp16`` keeps weights in half precision and widens them once, when the graph is opened: ONNX
Runtime's CPU kernels compute in float32 either way, and a graph converted to half precision as a
whole was no faster and a hundred times less exact. ``int8`` rounds the weights of matrix products
to 8 bits and their inputs too, on a scale chosen for each input when it is there.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lfm_policy.errors import InputError

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
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                weight_type=QuantType.QInt8,
            )
            smaller = onnx.load_model(str(path))
    except RuntimeError as error:
        raise InputError(
            "ONNX Runtime's quantization cannot turn this graph into int8, as happens with solvers "
            f"of several evaluations per step: use euler, fp32 or fp16 ({error})"
        ) from error
    finally:
        root.setLevel(level)
    return smaller
