"""Commands of a study: side by side, and stopped by Ctrl-C."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STUDIES = Path(__file__).resolve().parents[2] / "scripts" / "studies"

# Told to stop, it takes a while to write what it has, and dies of a second signal before it has.
# The second of those that run side by side presses Ctrl-C.
COMMAND = """
import os, pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[-1]
def stop(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    time.sleep(0.5)
    (folder / f"{name}.saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
assert os.getpgrp() == os.getpid()  # Ctrl-C of a terminal does not reach it
(folder / f"{name}.begun").touch()
if len(list(folder.glob("*.begun"))) == 2:
    os.kill(os.getppid(), signal.SIGINT)
time.sleep(60)
"""


@pytest.fixture()
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(STUDIES))
    import commands
    import pieces

    modules = {"commands": commands, "pieces": pieces}
    for name in modules:
        monkeypatch.delitem(sys.modules, name)
    return modules


def stub(program: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-c", program, *map(str, arguments))


def options(pieces: Any, folder: Path, *, jobs: int) -> argparse.Namespace:
    line = ["--dataset", str(folder), "--output", str(folder / "runs"), "--data", str(folder)]
    return pieces.study_options("").parse_args([*line, "--jobs", str(jobs)])


def test_ctrl_c_stops_what_runs_and_nothing_else_begins(
    modules: dict[str, Any], tmp_path: Path
) -> None:
    pieces = modules["pieces"]
    arguments = options(pieces, tmp_path, jobs=2)
    models = {name: pieces.Model() for name in "abcd"}
    study = pieces.Study(models, arguments, "cells.json", output=tmp_path)
    study.commands = modules["commands"].Commands(stub(COMMAND, tmp_path))

    def measure(name: str, sampler: Any, seed: int) -> None:
        study.commands.run(name)

    study.measure = measure
    wanted = [(name, 0, [pieces.Sampler(1), pieces.Sampler(2)]) for name in models]
    with pytest.raises(SystemExit, match="stopped by SIGINT; the same command goes on from here"):
        pieces.measure(study, wanted, arguments)
    begun = sorted(path.stem for path in tmp_path.glob("*.begun"))
    assert begun == ["a", "b"]
    assert sorted(path.stem for path in tmp_path.glob("*.saved")) == begun


def test_a_second_ctrl_c_does_not_wait(modules: dict[str, Any], tmp_path: Path) -> None:
    deaf = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    commands = modules["commands"].Commands(stub(deaf, tmp_path / "begun"))
    commands.kill()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        commands.run()
    assert caught.value.returncode < 0


def test_a_command_that_fails_is_told_of_and_the_others_go_on(
    modules: dict[str, Any], tmp_path: Path
) -> None:
    pieces = modules["pieces"]
    arguments = options(pieces, tmp_path, jobs=1)
    study = pieces.Study({}, arguments, "cells.json", output=tmp_path)
    done = "import pathlib, sys; pathlib.Path(*sys.argv[1:]).touch(); "
    done += "sys.exit(3 * (sys.argv[2] == 'a'))"
    study.commands = modules["commands"].Commands(stub(done, tmp_path))

    def measure(name: str, sampler: Any, seed: int) -> None:
        study.commands.run(name)

    study.measure = measure
    failures = pieces.measure(study, [(n, 0, [pieces.Sampler(1)]) for n in "ab"], arguments)
    assert len(failures) == 1 and failures[0].endswith("a: exit code 3")
    assert (tmp_path / "b").exists()
