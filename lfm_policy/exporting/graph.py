"""From a policy to an ONNX graph: its pipeline, traced."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.flow import SOLVERS
from lfm_policy.networks.conditioning import ConditionEmbedding
from lfm_policy.policy import Pipeline, Policy
from lfm_runtime.export.description import OUTPUT, extra_inputs

OPSET = 20
"""What torch's exporter writes without a conversion; ONNX Runtime reads it since 1.17."""
EXAMPLE_ROWS = 3
"""Rows of example inputs; not 1, which a tracer takes for a size that broadcasts."""

Inputs = tuple[dict[str, Tensor], Tensor, tuple[Tensor, Tensor] | None]
"""Arguments of `Pipeline.forward`: raw observations, noise, prefix and mask."""


def policy_graph(policy: Policy) -> onnx.ModelProto:
    """Return the graph of a whole policy with the sampler as it is set now, float32.

    Inputs are the raw observations by name, each (B, n_obs_steps, *shape), of the dtype that
    `DataSpec` says, then those of `ExportDescription.inputs`; the output is ``action`` (B, horizon,
    action_dim). The number of rows B is free. Weights are there once, however many steps use them.

    Raises:
        InputError: the sampler is adaptive, and so has no fixed number of steps, or draws noise.
    """
    if policy.nfe is None:
        raise InputError(
            f"the solver '{policy.solver}' chooses its steps itself and cannot be exported: choose "
            "a fixed number with --solver euler, midpoint or heun and --nfe"
        )
    if SOLVERS.get(policy.solver).random:
        raise InputError(
            f"the solver '{policy.solver}' draws noise in every step and cannot be exported: "
            "choose --solver ddim or dpmsolver++"
        )
    inputs = example_inputs(policy)
    pipeline = policy.pipeline.copy("cpu")
    _make_times_constant(pipeline, inputs)
    batch = {0: torch.export.Dim("batch", min=1)}
    obs, _, prefix = inputs
    # torch's exporter talks about packages that are not there.
    silence = errors_only(logging.getLogger("torch.onnx"))
    with silence, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            pipeline,
            inputs,
            dynamo=True,
            input_names=[*obs, *extra_inputs(policy.spec, policy.max_prefix)],
            output_names=[OUTPUT],
            dynamic_shapes=(dict.fromkeys(obs, batch), batch, prefix and (batch, batch)),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return _clean(program.model_proto)


def example_inputs(policy: Policy) -> Inputs:
    """Return valid inputs of a pipeline: random observations, noise and prefixes, on the CPU."""
    obs = {key: torch.from_numpy(value) for key, value in policy.fake_batch(EXAMPLE_ROWS).items()}
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(EXAMPLE_ROWS, *policy.chunk_shape, generator=generator)
    if not policy.max_prefix:
        return obs, noise, None
    action = policy.normalizer["action"]
    near = noise[:, : policy.max_prefix] * action.std.cpu()
    if action.origin is not None:
        near = near + action.origin.cpu()
    # The first row has no prefix, the second one of one action, and so on.
    mask = torch.arange(policy.max_prefix) < torch.arange(EXAMPLE_ROWS)[:, None]
    dtype = getattr(torch, policy.spec.dtype("action"))
    return obs, noise, (near.to(dtype), mask.to(torch.float32))


def _make_times_constant(pipeline: Pipeline, inputs: Inputs) -> None:
    """Replace every embedding of time and condition by one that knows its times."""
    times: dict[ConditionEmbedding, list[Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args: times.setdefault(module, []).append(args[0][0].clone())
        )
        for module in pipeline.modules()
        if isinstance(module, ConditionEmbedding)
    ]
    with torch.no_grad():
        pipeline(*inputs)
    for hook in hooks:
        hook.remove()
    for parent in list(pipeline.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConditionEmbedding) and child in times:
                setattr(parent, name, _KnownTimes(child, torch.stack(times[child])))


class _KnownTimes(nn.Module):
    """A `ConditionEmbedding` at a sequence of times known in advance, (S,) or (S, n_times).

    The part of the first layer that sees the time is a constant then, one bias per step, and need
    not be computed when the policy runs. The weights are shared by all steps.
    """

    def __init__(self, embedding: ConditionEmbedding, times: Tensor) -> None:
        super().__init__()
        hidden = embedding.hidden
        with torch.no_grad():
            features = embedding.time(times).flatten(1).double()
            n_time = features.shape[1]
            weight = hidden.weight[:, :n_time].double()
            biases = (features @ weight.T + hidden.bias.double()).float()
        # Tensors of their own and not rows of one: a row would be looked up in every step.
        self._biases = [bias.clone() for bias in biases]
        self.weight = nn.Parameter(hidden.weight[:, n_time:].clone(), requires_grad=False)
        self.out = embedding.out
        self._next = 0

    def forward(self, t: Tensor, cond: Tensor | None) -> Tensor:
        bias = self._biases[self._next]
        self._next = (self._next + 1) % len(self._biases)
        hidden = bias[None] if cond is None else nn.functional.linear(cond, self.weight, bias)
        embedding: Tensor = nn.functional.silu(self.out(nn.functional.silu(hidden)))
        return embedding


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
def errors_only(logger: logging.Logger) -> Iterator[None]:
    """Silence what a logger says below errors."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
