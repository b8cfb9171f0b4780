"""What all tests of distillation start from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from lfm_policy.training.trainer import Trainer


@pytest.fixture()
def teacher(small_run: Path, tmp_path: Path) -> Path:
    """A copy of a small teacher of two blocks."""
    return Path(shutil.copytree(small_run, tmp_path / "teacher"))


@pytest.fixture
def interrupt_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return a function that has Ctrl-C come in steps of a training, counted from 1 on.

    What it returns grows by the number of each step that is begun, in all trainings of the test.
    """
    train_step = Trainer.train_step

    def interrupt(*steps: int) -> list[int]:
        begun: list[int] = []

        def step_or_interrupt(trainer: Trainer) -> tuple[Tensor, Tensor]:
            begun.append(len(begun) + 1)
            if begun[-1] in steps:
                raise KeyboardInterrupt
            return train_step(trainer)

        monkeypatch.setattr(Trainer, "train_step", step_or_interrupt)
        return begun

    return interrupt
