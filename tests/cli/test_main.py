"""Help, exit codes and messages of the command as a whole."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.cli.data import inspect as inspect_command
from lfm_policy.errors import InputError
from lfm_policy.training import Interrupted, TrainingError
from lfm_policy.version import __version__

Command = Callable[..., Any]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)
    assert result.code == 0 and not result.err
    for text in ("demo", "train", "eval", "inspect", "exit codes: 0 done, 1 failed", "2 bad input"):
        assert text in result.out


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("demo", ["key=value", "--resume", "--output", "--dataset", "--episodes", "--quiet"]),
        ("train", ["config", "key=value", "--resume", "--output", "--options", "--show-config"]),
        ("eval", ["checkpoint", "--episodes", "--seed-start", "--nfe", "--video", "--num-envs"]),
        ("inspect", ["path", "--plot"]),
    ],
)
def test_help_of_each_command(command: Command, name: str, texts: list[str]) -> None:
    result = command(name, "--help")
    assert result.code == 0 and not result.err
    for text in [*texts, "--seed", "--device", "--json", "examples:", f"lfm-policy {name}"]:
        assert text in result.out


def test_version(command: Command) -> None:
    result = command("--version")
    assert result.code == 0 and result.out == f"lfm-policy {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["trane"], "invalid choice: 'trane': did you mean 'train'"),
        (["train"], "which configuration? Give a YAML file"),
        (["eval"], "required: checkpoint"),
        (["inspect"], "required: path"),
        (["inspect", "x", "--seed", "-1"], "-1 is negative"),
        (["inspect", "x", "--seed", "a"], "invalid non_negative value: 'a'"),
        (["eval", "x", "--episodes", "0"], "0 is not positive"),
        (["eval", "x", "--nfe", "0"], "0 is not positive"),
        (["demo", "--episodes", "0"], "0 is not positive"),
        (["demo", "--nope"], "unrecognized arguments: --nope"),
        (["eval", "x", "--nope"], "unrecognized arguments: --nope"),
        (["eval", "x", "--epsiodes", "3"], "--epsiodes 3 (--epsiodes: did you mean '--episodes'"),
        (["train", "x", "--sede=3"], "--sede=3 (--sede: did you mean '--seed'"),
        (["eval", "x", "a=b"], "unrecognized arguments: a=b"),
        (["inspect", "x", "y"], "unrecognized arguments: y"),
        (["train", "pusht/fm", "--resume", "junk"], "--resume junk: there is no such run folder"),
        (["train", "pusht/fm", "--nope", "a=b"], "unrecognized arguments: --nope a=b"),
    ],
)
def test_wrong_usage(command: Command, arguments: list[str], message: str) -> None:
    result = command(*arguments)
    assert result.code == 2
    assert message in result.err and not result.out


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("the file is bad"), 2, "error: the file is bad"),
        (TrainingError("the loss is NaN"), 1, "trainingerror: the loss is NaN"),
        (Interrupted("stopped by SIGTERM"), 1, "interrupted: stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: [Errno 13] Permission denied"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left"),
        (OSError(30, "Read-only file system", "/x"), 2, "error: [Errno 30] Read-only"),
        (OSError(122, "Disk quota exceeded", "/x"), 2, "your quota is used up"),
        (ConnectionRefusedError(111, "Connection refused"), 1, "error: [Errno 111] Connection"),
    ],
)
def test_exit_codes(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr(inspect_command, "run", fail)
    result = command("inspect", "anything")
    assert result.code == code
    assert message in result.err and not result.out


def test_a_warning_is_one_line_at_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(arguments: object) -> int:
        for _ in range(2):
            warnings.warn("1 of 6 episodes is left out", UserWarning, stacklevel=1)
        raise InputError("all the others are empty")

    monkeypatch.setattr(inspect_command, "run", warn)
    result = command("inspect", "anything")
    assert result.err == "warning: 1 of 6 episodes is left out\nerror: all the others are empty\n"
    assert result.code == 2 and not result.out


def test_as_a_module_and_with_a_reader_that_leaves() -> None:
    module = [sys.executable, "-m", "lfm_policy"]
    done = subprocess.run([*module, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("lfm-policy ")
    # 1000 lines into a pipe that is closed at once.
    process = subprocess.Popen(
        [*module, "train", "pusht/fm", "--options", "all"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert "Traceback" not in error and "BrokenPipe" not in error


@pytest.mark.parametrize("name", ["train", "eval", "inspect"])
@pytest.mark.parametrize("path", ["missing", "x" * 5000, "a\0b", ""])
def test_a_path_to_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command(name, path)
    assert result.code == 2
    assert result.err.startswith("error: ") and not result.out
