from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate.state import is_initialized

from lfm_policy.config.training import TrainingConfig
from lfm_policy.training import accelerator as accelerator_module
from lfm_policy.training.accelerator import available_options, make_accelerator

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_options_that_work_are_left_alone() -> None:
    for options in (TrainingConfig(), TrainingConfig(mixed_precision="bf16")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert available_options(options, CPU) == options


def test_fp16_on_a_cpu_falls_back_with_a_message() -> None:
    with pytest.warns(UserWarning, match="fp16 needs a GPU: training in float32"):
        options = available_options(TrainingConfig(mixed_precision="fp16"), CPU)
    assert options == TrainingConfig()


def test_a_gpu_without_bf16_falls_back_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.warns(UserWarning, match="no bfloat16: training in float32"):
        options = available_options(TrainingConfig(mixed_precision="bf16"), CUDA)
    assert options == TrainingConfig()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    options = TrainingConfig(mixed_precision="bf16")
    assert available_options(options, CUDA) == options


def _failing_compiler(*args: Any, **kwargs: Any) -> Any:
    def compiled(*args: Any) -> Any:
        raise RuntimeError("no C++ compiler was found\nand many more lines")

    return compiled


def test_a_missing_compiler_falls_back_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", _failing_compiler)
    with pytest.warns(UserWarning) as caught:
        options = available_options(TrainingConfig(compile=True), CPU)
    assert options == TrainingConfig()
    (message,) = [str(warning.message) for warning in caught]
    assert message == (
        "training.compile=true does not work here (no C++ compiler was found): training without it"
    )


def test_a_working_compiler_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    assert available_options(TrainingConfig(compile=True), CPU).compile


def test_the_number_of_threads_is_set(restore_threads: None) -> None:
    make_accelerator(TrainingConfig(num_threads=2), CPU)
    assert torch.get_num_threads() == 2
    make_accelerator(TrainingConfig(num_threads=0), CPU)
    assert torch.get_num_threads() == 2


def test_one_process_on_the_cpu() -> None:
    accelerator = make_accelerator(TrainingConfig(), CPU)
    assert accelerator.device == CPU
    assert accelerator.num_processes == 1
    assert accelerator.is_main_process


def test_a_second_run_in_one_process_may_have_another_precision() -> None:
    # accelerate keeps its state per process and refuses to change it.
    for name in ("no", "bf16", "no"):
        options = TrainingConfig(mixed_precision=name)
        assert make_accelerator(options, CPU).mixed_precision == name


def test_a_numbered_gpu_becomes_the_current_one(
    monkeypatch: pytest.MonkeyPatch, fake_gpus: Callable[[int], None]
) -> None:
    # accelerate itself would take the first one.
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(accelerator_module, "Accelerator", lambda **options: options)
    fake_gpus(2)
    assert make_accelerator(TrainingConfig(), torch.device("cuda", 1)) == {
        "mixed_precision": "no",
        "cpu": False,
    }
    assert chosen == [torch.device("cuda", 1)]


def test_a_gpu_after_a_run_on_the_cpu_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    make_accelerator(TrainingConfig(), CPU)
    monkeypatch.setattr(accelerator_module, "Accelerator", lambda **options: options)
    make_accelerator(TrainingConfig(), CUDA)
    assert not is_initialized()
