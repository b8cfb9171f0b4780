"""``lfm-policy check``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.mark.slow
def test_command(command: Command, small_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "found"
    arguments = ["check", small_run, "--samples", 2, "--output", output, "--device", "cpu"]
    others = command(*arguments, "--quiet", "--seed", 1, "dataset.max_episodes=3")
    assert others.code == 0 and "other demonstrations" in others.out, others.err
    result = command(*arguments, "--quiet")
    assert result.code == 0, result.err
    for words in ("repeat last", "1 held-out episodes", "What looks wrong", "check.png"):
        assert words in result.out
    assert (output / "check.png").read_bytes().startswith(b"\x89PNG")
    printed = command(*arguments, "--json")
    assert printed.code == 0
    assert json.loads(printed.out) == json.loads((output / "check.json").read_text())


def test_command_with_bad_input(command: Command, small_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "found"
    for arguments, words in (
        (["nowhere"], "no such checkpoint"),
        ([small_run, "--data", tmp_path / "nothing.zarr"], "no such file or folder"),
        ([small_run, "--samples", 1], "samples is 1"),
        ([small_run, "seed=1"], "expected an option of dataset"),
        ([small_run, "--solver", "eulr"], "eulr"),
    ):
        result = command("check", *arguments, "--output", output)
        assert result.code == 2 and words in result.err
    assert not output.exists()
