"""Trains in several processes; started by test_accelerate.py through ``accelerate launch``.

Arguments: CONFIG FOLDER. Importing takes seconds, so one launch does all, each run in its own
folder below FOLDER: ``run`` by the command as it is, ``stopped`` with SIGTERM for one of the
processes in block 2, after which all go on, ``one`` with one step per block, and ``told`` with
targets for the encoder. What process R printed and returned is in ``FOLDER/R.json``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from lfm_policy.training.trainer import Trainer


def _command(*arguments: str) -> tuple[int, str]:
    """Do what ``python -m lfm_policy`` does; return its exit code and what it printed."""
    sys.argv = ["lfm_policy", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_module("lfm_policy", run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0), out.getvalue()
    raise AssertionError("the command returned")


def _signal_in_second_process() -> None:
    original = Trainer.train_step

    def train_step(trainer: Trainer) -> Any:
        if os.environ["RANK"] == "1" and (trainer.n, trainer.step) == (2, 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(trainer)

    Trainer.train_step = train_step  # type: ignore[method-assign]


def main() -> None:
    """Do all runs."""
    file, folder = sys.argv[1], Path(sys.argv[2])
    common = ["train", file, "--device", "cpu", "--output"]
    results = {"run": _command(*common, str(folder / "run"))}
    one = ["training.total_steps=2", "training.gradient_clip=0"]
    results["one"] = _command(*common, str(folder / "one"), *one)
    told = ["training.total_steps=10", "auxiliary.keys=[goal]"]
    results["told"] = _command(*common, str(folder / "told"), *told)
    train_step = Trainer.train_step
    _signal_in_second_process()
    results["stopped"] = _command(*common, str(folder / "stopped"), "--json")
    Trainer.train_step = train_step  # type: ignore[method-assign]
    results["resumed"] = _command(*common, str(folder / "stopped"), "--resume", "--json")
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
