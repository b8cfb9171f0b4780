"""From a policy to an ONNX graph: its pipeline, traced."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.flow import SOLVERS
from lfm_policy.networks.conditioning import ConditionEmbedding, StepFilm
from lfm_policy.policy import Pipeline, Policy
from lfm_runtime.export.description import OUTPUT, extra_inputs

OPSET = 20
"""What torch's exporter writes without a conversion; ONNX Runtime reads it since 1.17."""
EXAMPLE_ROWS = 3
"""Rows of example inputs; not 1, which a tracer takes for a size that broadcasts."""

REWRITTEN_EVALUATIONS = 16
"""More evaluations than these make a graph that torch's exporter would rewrite for an hour: it
compares every node with all others. ONNX Runtime does much of the same when it opens a graph."""

Inputs = tuple[dict[str, Tensor], Tensor, tuple[Tensor, Tensor] | None]
"""Arguments of `Pipeline.forward`: raw observations, noise, prefix and mask."""


def policy_graph(policy: Policy) -> onnx.ModelProto:
    """Return the graph of a whole policy with the sampler as it is set now, float32.

    Inputs are the raw observations by name, each (B, n_obs_steps, *shape), of the dtype that
    `DataSpec` says, then those of `ExportDescription.inputs`; the output is ``action`` (B, horizon,
    action_dim). The number of rows B is free. Weights are there once, however many steps use them.

    Raises:
        InputError: the sampler is adaptive, and so has no fixed number of steps, or draws noise;
            or torch cannot trace a network or an encoder, such as one of a plugin, or for a fixed
            number of rows alone.
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
    rewrite = policy.nfe <= REWRITTEN_EVALUATIONS
    batch = {0: torch.export.Dim("batch", min=1)}
    obs, _, prefix = inputs
    # torch's exporter talks about packages that are not there, and prints all of what it traced
    # when it fails.
    silence = errors_only(logging.getLogger("torch.onnx"), logging.getLogger("torch.fx"))
    with silence, redirect_stderr(StringIO()), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                pipeline,
                inputs,
                dynamo=True,
                input_names=[*obs, *extra_inputs(policy.spec, policy.max_prefix)],
                output_names=[OUTPUT],
                dynamic_shapes=(dict.fromkeys(obs, batch), batch, prefix and (batch, batch)),
                opset_version=OPSET,
                optimize=rewrite,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise _untraceable(policy, error) from error
    assert program is not None
    if not rewrite:
        _shorten(program.model)
    model = _clean(program.model_proto)
    for tensor in (*model.graph.input, *model.graph.output):
        if not tensor.type.tensor_type.shape.dim[0].dim_param:
            raise _for_so_many_rows(policy, tensor.name)
    return model


def _for_so_many_rows(policy: Policy, tensor: str) -> InputError:
    return InputError(
        f"the policy cannot be exported ({_networks(policy)}, solver '{policy.solver}'): "
        f"'{tensor}' of the graph has {EXAMPLE_ROWS} rows and no other number, because a forward "
        "made a plain number of the number of rows: write x.shape[0], flatten(1) and view_as(x), "
        "not len(x) or int(x.shape[0])"
    )


def _shorten(model: onnx_ir.Model) -> None:
    """Do to a graph what takes a time that grows with it, and no longer."""
    passes.InlinePass()(model)
    fold_constants(model)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        step(model)


def _untraceable(policy: Policy, error: Exception) -> InputError:
    """Return torch's reason in a line: its own text is a page."""
    text = str(error.__cause__ or error)
    found = re.search(r'\n\s*File "(.*)", line (\d+), in .*\n\s*(.+)', text)
    place = f" ({found[1]}, line {found[2]}: {found[3]})" if found else ""
    return InputError(
        f"the policy cannot be exported, torch cannot trace it ({_networks(policy)}): "
        f"{text.splitlines()[0].strip()[:300]}{place}. A forward must not look at values, as if, "
        "float(x) and x.item() do, and its shapes must follow from those of its inputs"
    )


def _networks(policy: Policy) -> str:
    return f"network '{policy.config.network.name}', encoder '{policy.config.encoder.name}'"


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
    """Replace every embedding of time by one that knows its times."""
    times: dict[nn.Module, list[Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args: times.setdefault(module, []).append(args[0][0].clone())
        )
        for module in pipeline.modules()
        if isinstance(module, (ConditionEmbedding, StepFilm))
    ]
    with torch.no_grad():
        pipeline(*inputs)
    for hook in hooks:
        hook.remove()
    for parent in list(pipeline.modules()):
        for name, child in list(parent.named_children()):
            if child not in times:
                continue
            at = torch.stack(times[child])
            known: nn.Module
            if isinstance(child, ConditionEmbedding):
                known = _KnownTimes(child, at)
            else:
                known = _KnownSteps(child, at)
            setattr(parent, name, known)


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


class _KnownSteps(nn.Module):
    """What a `StepFilm` adds at a sequence of times known in advance: constants."""

    def __init__(self, film: nn.Module, times: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            self._added = [row[None].clone() for row in film(times)]
        self._next = 0

    def forward(self, t: Tensor) -> Tensor:
        added = self._added[self._next]
        self._next = (self._next + 1) % len(self._added)
        return added


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
def errors_only(*loggers: logging.Logger) -> Iterator[None]:
    """Silence what loggers say below errors."""
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
