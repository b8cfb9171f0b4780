"""How work is timed: with a clock that the test moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.estimate.work import REPEATS, Work, measure, others_at_work
from lfm_policy.training.recorded import WARM_UP

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Callable[[], Callable[[], object]]:
        """Return a start whose calls take these seconds, the last of them ever after."""

        def once() -> None:
            self.now += seconds[min(self.calls, len(seconds) - 1)]
            self.calls += 1

        return lambda: once


def test_the_first_call_only_warms_up() -> None:
    clock = Clock()
    (share,) = measure([Work("blocks", "step", 1000, clock.work(0.5, 0.01))], CPU, clock=clock)
    assert share.each == pytest.approx(0.01)
    assert share.seconds == pytest.approx(10)
    assert clock.calls == 1 + REPEATS


def test_what_is_slow_is_done_once() -> None:
    clock = Clock()
    (share,) = measure([Work("encoder", "step", 30_000, clock.work(39.0))], CPU, clock=clock)
    assert (share.each, clock.calls) == (39.0, 1)


def test_few_steps_are_measured_by_fewer() -> None:
    clock = Clock()
    measure([Work("blocks", "step", 120, clock.work(0.01))], CPU, clock=clock)
    assert clock.calls == 1 + 2  # 2% of 120
    clock.calls = 0
    measure([Work("blocks", "step", 5, clock.work(0.01))], CPU, clock=clock)
    assert clock.calls == 2


def test_on_a_gpu_what_comes_before_a_recorded_step_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    clock = Clock()
    # It loads kernels, does steps as they are, records one, and replays it from then on.
    start = clock.work(2.5, 0.05, 0.05, 0.3, 0.001)
    for count, calls in ((1000, REPEATS), (5, 1)):
        clock.calls = 0
        (share,) = measure([Work("blocks", "step", count, start)], GPU, clock=clock)
        assert share.each == pytest.approx(0.001)
        assert clock.calls == 1 + WARM_UP + calls
    # What is slow anyway is done twice: the first call may be slow for its own reasons.
    clock.calls = 0
    (share,) = measure([Work("encoder", "step", 30_000, clock.work(41.0, 39.0))], GPU, clock=clock)
    assert (share.each, clock.calls) == (39.0, 2)


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 9.0, 9.0), raising=False)
    assert others_at_work() == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (9.4, 0.0, 0.0), raising=False)
    assert others_at_work().startswith("this machine is busy (load 9.4 on 2 CPUs): ")
    estimate = Estimate((), "cpu", advice=("change this",), busy=others_at_work())
    assert estimate.said == (others_at_work(), "change this")
    assert estimate.text().splitlines()[2].strip() == others_at_work()


def test_a_call_may_be_several_units_or_a_part_of_one() -> None:
    clock = Clock()
    works = [
        Work("features", "frame", 3200, clock.work(0.08), per_call=16),
        Work("push-forward", "evaluation", 38, clock.work(0.08), per_call=0.5),
    ]
    features, push = measure(works, CPU, clock=clock)
    assert features.each == pytest.approx(0.005) and features.seconds == pytest.approx(16)
    assert push.each == pytest.approx(0.16)


def test_random_numbers_are_the_same_afterwards() -> None:
    def start() -> Callable[[], object]:
        torch.randn(3)
        return lambda: torch.randn(5)

    torch.manual_seed(0)
    expected = torch.randn(2)
    torch.manual_seed(0)
    measure([Work("any", "step", 100, start)], CPU)
    assert torch.equal(torch.randn(2), expected)


def test_saved_tensors_are_counted_once_and_without_parameters() -> None:
    layer = torch.nn.Linear(8, 16)

    def once() -> None:
        x = torch.ones(32, 8, requires_grad=True)
        y = layer(x)  # keeps x and the weight
        (y.exp() * 2).sum().backward()  # keeps the result of exp

    (share,) = measure([Work("any", "step", 1, lambda: once)], CPU)
    assert share.saved_bytes == 4 * (32 * 8 + 32 * 16)


def test_tensors_of_forward_mode_are_counted_too() -> None:
    """Their storage has no address; what is kept of them takes memory nevertheless."""
    first, second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

    def once() -> None:
        x = torch.ones(32, 8)
        _, change = torch.func.jvp(lambda x: second(first(x)), (x,), (x,))
        change.sum().backward()

    (share,) = measure([Work("any", "step", 1, lambda: once)], CPU)
    assert share.saved_bytes >= 4 * 32 * 16


def test_stopping_between_two_calls() -> None:
    clock = Clock()

    def stop() -> None:
        if clock.calls == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([Work("blocks", "step", 1000, clock.work(0.01))], CPU, clock=clock, stop=stop)
    assert clock.calls == 2
