from __future__ import annotations

import os
from pathlib import Path

import pytest

from lfm_policy.checkpoint_folders import CHECKPOINTS, LATEST_FILE
from lfm_policy.training.run_folder.checkpoints import RunFolder


def _write(folder: RunFolder, name: str, text: str = "x") -> Path:
    target = folder.write(name, lambda path: (path / "file").write_text(text) and None)
    # Files of one test are too close in time to be told apart by it.
    age = 1_000_000 + int(name.strip("abcdefghijklmnopqrstuvwxyz-.") or 0)
    os.utime(target, (age, age))
    return target


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / CHECKPOINTS).iterdir())


def test_an_empty_folder_has_no_latest_checkpoint(tmp_path: Path) -> None:
    assert RunFolder(tmp_path, keep=1).latest() is None


def test_the_newest_checkpoint_is_the_latest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, keep=10)
    for step in (1, 2, 3):
        assert _write(folder, f"step{step}") == folder.latest()
    assert _names(tmp_path) == ["step1", "step2", "step3"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_old_checkpoints_are_removed(tmp_path: Path, keep: int) -> None:
    folder = RunFolder(tmp_path, keep=keep)
    for step in range(1, 7):
        _write(folder, f"step{step}")
    assert _names(tmp_path) == [f"step{step}" for step in range(7 - keep, 7)]


def test_a_checkpoint_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, keep=1)
    _write(folder, "step1")

    def fail(path: Path) -> None:
        (path / "file").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.write("step2", fail)
    assert _names(tmp_path) == ["step1"]
    assert folder.latest() == tmp_path / CHECKPOINTS / "step1"


def test_a_checkpoint_that_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, keep=2)
    target = _write(folder, "step1", "first")
    _write(folder, "step1", "second")
    assert (target / "file").read_text() == "first"
    assert folder.latest() == target


def test_what_a_killed_process_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    """It is newer than the checkpoints before it, and must not be kept in their place."""
    folder = RunFolder(tmp_path, keep=2)
    _write(folder, "step1")
    (tmp_path / CHECKPOINTS / ".tmp-abc").mkdir()
    _write(folder, "step2")
    assert _names(tmp_path) == ["step1", "step2"]


def test_leftovers_of_a_run_without_checkpoint_are_cleared(tmp_path: Path) -> None:
    for name in (".tmp-abc", "step1"):
        (tmp_path / CHECKPOINTS / name).mkdir(parents=True)
    (tmp_path / "tensorboard").mkdir()
    for name in ("metrics.jsonl", ".tmp-abc.yaml"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "notes.txt").write_text("the user's own")
    RunFolder(tmp_path, keep=1).clear_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_pipe_in_place_of_the_pointer_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LATEST_FILE)
    assert RunFolder(tmp_path, keep=1).latest() == tmp_path / CHECKPOINTS
