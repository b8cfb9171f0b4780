"""What a training does often and always alike, and the seconds that it takes once."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.machine import usable_cpus
from lfm_policy.text.numbers import counted
from lfm_policy.training.recorded import WARM_UP

SECONDS_PER_WORK = 0.4
"""So long each kind of work is repeated, and never more than `REPEATS` times."""

REPEATS = 8

SLOW_SECONDS = 1.0
"""Work that takes longer is done once: what it takes is clear, and is to be said at once."""

SMALLEST_SHARE = 0.02
"""Of all repetitions of the real work, so many are made beforehand at most (but always two)."""


BUSY = 1.25
"""Processes that want to run, for each CPU: with more, what is measured is of a busy machine."""


@dataclass(frozen=True)
class Work:
    """A kind of work.

    Attributes:
        label: such as ``"encoder"``.
        unit: what is counted, such as ``"step"``.
        count: units of the whole training.
        start: makes ready, and returns what does ``per_call`` units on copies, with random numbers
            of its own: nothing of the training may change by it.
        per_call: units of one call.
    """

    label: str
    unit: str
    count: float
    start: Callable[[], Callable[[], object]]
    per_call: float = 1


@dataclass(frozen=True)
class Share:
    """What a kind of work takes.

    Attributes:
        label: see `Work`.
        unit: see `Work`.
        count: units.
        each: seconds of a unit.
        saved_bytes: what autograd keeps of one call for the gradients.
    """

    label: str
    unit: str
    count: float
    each: float
    saved_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Seconds of all units."""
        return self.count * self.each


def others_at_work() -> str:
    """Return a sentence where other programs keep the CPUs busy, so that times are too long."""
    cpus = usable_cpus()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load <= BUSY * cpus:
        return ""
    return (
        f"this machine is busy (load {load:.1f} on {counted(cpus, 'CPU')}): it may be many times "
        "faster when it is idle; measure again then, or set training.num_threads=1 now"
    )


def measure(
    works: Sequence[Work],
    device: torch.device,
    *,
    clock: Callable[[], float] = time.perf_counter,
    stop: Callable[[], object] = lambda: None,
    quiet: bool = True,
) -> list[Share]:
    """Do each kind of work a few times, and return what it takes.

    The first call of each prepares memory and kernels: it counts only where it is slow, or alone.
    On a GPU neither do those after it, with which a step is recorded that is replayed from then on,
    see `RecordedStep`. torch's global random numbers are the same afterwards as before.

    Args:
        works: what is to be done.
        device: on which the work is done.
        clock: gives seconds.
        stop: called between two calls; raises to stop.
        quiet: no progress bar.
    """
    on_gpu = device.type == "cuda"
    gpus = [device] if on_gpu else []
    unlike = 1 + WARM_UP if on_gpu else 1  # first calls, which are not as all that follow
    shares = []
    with torch.random.fork_rng(gpus):
        for work in tqdm(works, desc="measuring a few steps", disable=quiet, delay=1, leave=False):
            once = work.start()
            most = max(1, min(REPEATS, int(SMALLEST_SHARE * work.count / work.per_call)))
            saved = _SavedTensors()
            seconds: list[float] = []
            for repeat in range(unlike + most):
                stop()
                begin = clock()
                with saved if repeat == 0 else nullcontext():
                    once()
                if on_gpu:
                    torch.cuda.synchronize(device)
                seconds.append(clock() - begin)
                # The very first call on a GPU also loads what all work there needs.
                is_slow = seconds[-1] >= SLOW_SECONDS and not (on_gpu and repeat == 0)
                if is_slow or sum(seconds[unlike:]) >= SECONDS_PER_WORK:
                    break
            each = statistics.median(seconds[unlike:] or seconds[-1:]) / work.per_call
            shares.append(Share(work.label, work.unit, work.count, each, saved.n_bytes))
    return shares


class _SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Counts the memory of what is kept for the gradients; parameters among it are not counted.

    A storage counts once, however many tensors are views of it.
    """

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}
        super().__init__(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(base, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            try:
                address = storage.data_ptr()
            except RuntimeError:  # a tensor within torch.func, whose storage is out of reach
                address = -1 - len(self._storages)
            self._storages[address] = storage.nbytes()
        return tensor

    @property
    def n_bytes(self) -> int:
        return sum(self._storages.values())
