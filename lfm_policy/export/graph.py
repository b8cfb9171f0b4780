"""From a policy to an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch

from lfm_policy.export.sampler_module import SamplerModule, example_inputs
from lfm_policy.policy import Policy
from lfm_runtime.export.description import OUTPUT, extra_inputs

OPSET = 20
"""What torch's exporter writes without a conversion; ONNX Runtime reads it since 1.17."""


def policy_graph(policy: Policy) -> onnx.ModelProto:
    """Return the graph of a whole policy with the sampler as it is set now, float32.

    Inputs are the raw observations by name, each (B, n_obs_steps, *shape), of the dtype that
    `DataSpec` says, then those of `ExportDescription.inputs`; the output is ``action`` (B, horizon,
    action_dim). The number of rows B is free. Weights are there once, however many steps use them.

    Raises:
        InputError: the sampler is adaptive.
    """
    module = SamplerModule(policy).eval()
    inputs = example_inputs(policy)
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            input_names=[*module.obs_keys, *extra_inputs(policy.spec, policy.max_prefix)],
            output_names=[OUTPUT],
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return _clean(program.model_proto)


def _clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what only a debugger needs, which is more than half of a graph of many steps."""
    del model.metadata_props[:]
    model.ClearField("doc_string")
    graph = model.graph
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    for position, node in enumerate(graph.node):
        node.name = f"n{position}"
    onnx.checker.check_model(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
