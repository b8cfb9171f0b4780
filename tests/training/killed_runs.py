"""Trains the same experiment several times, each time killed by SIGKILL at another point.

Started by test_resume.py as ``python killed_runs.py CONFIG FOLDER``. Every run is a process of its
own, forked from this one, because importing everything takes longer than the training.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What runs import late, here once for all.
import torchdiffeq  # noqa: F401

from lfm_policy.config import load_config
from lfm_policy.flow import FlowChain
from lfm_policy.training import train
from lfm_policy.training.trainer import Trainer


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_step(n: int, step: int) -> Callable[[], None]:
    """Die after the gradients of step ``step`` (from 0) of block n have changed the weights."""

    def plan() -> None:
        original = Trainer.train_step

        def train_step(trainer: Trainer) -> Any:
            result = original(trainer)
            if (trainer.n, trainer.step) == (n, step + 1):
                _kill()
            return result

        Trainer.train_step = train_step  # type: ignore[method-assign]

    return plan


def _in_push(batch: int) -> Callable[[], None]:
    """Die while the batch ``batch`` (from 0) is integrated."""

    def plan() -> None:
        original, calls = FlowChain.push_forward, []

        def push_forward(*args: Any, **options: Any) -> Any:
            if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # not those of the estimate
                calls.append(1)
            if len(calls) == batch + 1:
                _kill()
            return original(*args, **options)

        FlowChain.push_forward = push_forward  # type: ignore[method-assign]

    return plan


def _at_rename(name: str, *, function: str, after: bool) -> Callable[[], None]:
    """Die before or after a file or folder gets its final name."""

    def plan() -> None:
        original = getattr(os, function)

        def rename(source: Any, target: Any) -> None:
            hit = Path(target).name == name
            if hit and not after:
                _kill()
            original(source, target)
            if hit:
                _kill()

        setattr(os, function, rename)

    return plan


def _after_naming(step: int) -> Callable[[], None]:
    """Die after ``latest`` names a checkpoint, before anything else is done."""

    def plan() -> None:
        original = os.replace

        def replace(source: Any, target: Any) -> None:
            original(source, target)
            if Path(target).name == "latest" and f"{step:09d}" in Path(target).read_text():
                _kill()

        os.replace = replace

    return plan


KILLS = {
    "before the first checkpoint": _in_step(1, 2),
    "in block 1": _in_step(1, 9),
    "in the last batch of the push-forward": _in_push(2),
    "in the push-forward of the validation set": _in_push(3),
    "in block 2 before its first checkpoint": _in_step(2, 1),
    "in block 2": _in_step(2, 9),
    "while a checkpoint is written": _at_rename(
        "block2-train-000000023", function="rename", after=False
    ),
    "between a checkpoint and its name": _at_rename(
        "block2-train-000000023", function="rename", after=True
    ),
    "between a checkpoint and the log": _after_naming(23),
    "between the last checkpoint and its name": _at_rename("final", function="rename", after=True),
    "while the configuration is written": _at_rename(
        "config.yaml", function="replace", after=False
    ),
}


def main() -> None:
    """Run all and print their names; each is the name of a run folder."""
    os.fsync = lambda descriptor: None  # protects from power cuts, not from signals
    gc.freeze()  # otherwise every child looks through all that was imported
    config, root = load_config(sys.argv[1]), Path(sys.argv[2])
    for name, plan in KILLS.items():
        pid = os.fork()
        if pid == 0:
            plan()
            train(config, root / name, device="cpu", quiet=True)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"the run killed {name} ended with status {status}")
        print(name)


if __name__ == "__main__":
    main()
