"""A gradient step on a GPU as one piece of work: recorded once, then replayed.

A step of a small network is some hundred kernels of a few microseconds, which take longer to launch
one by one from Python than to run. A CUDA graph launches all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lfm_policy.errors import TrainingError


def side_by_side(works: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Return what each of the works returns, which do not depend on one another.

    On a GPU they are done at the same time, each on a stream of its own, and so are their gradients
    later: one small network leaves most of a GPU idle.
    """
    if device.type != "cuda":
        return [work() for work in works]
    current = torch.cuda.current_stream(device)
    streams = [torch.cuda.Stream(device) for _ in works]
    results = []
    for stream, work in zip(streams, works, strict=True):
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            results.append(work())
    for stream in streams:
        current.wait_stream(stream)
    return results


WARM_UP = 3
"""Steps before the recording, in which libraries choose their kernels and buffers are made."""


class RecordedStep:
    """Work that is the same sequence of kernels in every step, on tensors of the same shapes.

    The first steps are done as they are, on a stream of their own, and count like all others. Then
    the work is recorded, and from there on only its inputs are copied in and the graph is replayed.
    Random numbers are those of the device's generator as it stands at each replay.
    """

    def __init__(self, work: Callable[..., tuple[Tensor, ...]]) -> None:
        """Keep the work; it must change nothing but tensors, and look at none of their values."""
        self._work = work
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Any] = []
        self._shapes: list[torch.Size | None] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Do one step; what it returns is valid until the next one.

        Args:
            inputs: tensors, None, or dicts of tensors, the same kinds and shapes in every step.

        Raises:
            TrainingError: the work cannot be recorded.
            ValueError: the inputs have other shapes than the recorded ones.
        """
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._done_apart(inputs)
        leaves, form = pytree.tree_flatten(inputs)
        shapes = [leaf.shape if isinstance(leaf, Tensor) else None for leaf in leaves]
        if self._graph is None:
            self._record(leaves, form)
            self._shapes = shapes
        elif shapes != self._shapes:
            raise ValueError(f"inputs of shapes {shapes}, recorded were {self._shapes}")
        assert self._graph is not None
        for own, given in zip(self._inputs, leaves, strict=True):
            if isinstance(own, Tensor):
                own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _done_apart(self, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        current, apart = torch.cuda.current_stream(), torch.cuda.Stream()
        apart.wait_stream(current)
        with torch.cuda.stream(apart):
            outputs = self._work(*inputs)
        current.wait_stream(apart)
        return outputs

    def _record(self, leaves: list[Any], form: Any) -> None:
        device = torch.cuda.current_device()
        self._inputs = [
            leaf.to(device, copy=True) if isinstance(leaf, Tensor) else leaf for leaf in leaves
        ]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            # Only this thread records: another one may be copying the next step's images.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._outputs = self._work(*pytree.tree_unflatten(self._inputs, form))
        except RuntimeError as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                "a gradient step could not be recorded as a CUDA graph, because something in it "
                f"looks at values on the GPU ({first_line[:200]}); train with "
                "training.cuda_graphs=false"
            ) from error
        self._graph = graph
