"""Files and folders appear complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import (
    atomic_file,
    atomic_folder,
    exists,
    is_file,
    open_unlinked,
    write_json,
    write_text,
)
from lfm_runtime.disk.full import explain
from lfm_runtime.disk.leftovers import only_writer


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_atomic_file_replaces_on_success(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with atomic_file(path) as temporary:
            assert temporary.parent == path.parent and temporary.suffix == ".txt"
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_atomic_file_leaves_everything_as_it_was_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="half"), atomic_file(path) as temporary:
        temporary.write_text("aft")
        raise RuntimeError("half way")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("usual_umask")
def test_results_are_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as temporary:
        # Some writers replace the file by a private one of their own.
        temporary.unlink()
        temporary.touch(mode=0o600)
    assert mode(path) == 0o644
    with atomic_folder(tmp_path / "folder") as folder:
        write_text(folder / "inside", "text")
    assert mode(tmp_path / "folder") == 0o755
    assert mode(tmp_path / "folder" / "inside") == 0o644


def test_atomic_folder_appears_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "file").write_text("x")
        assert not path.exists()
    assert (path / "sub" / "file").read_text() == "x"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_folder_leaves_nothing_on_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_atomic_folder_does_not_replace(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already"), atomic_folder(tmp_path):
        pass


def test_atomic_folder_replaces_when_it_may(tmp_path: Path) -> None:
    def write(text: str) -> None:
        with atomic_folder(tmp_path / "new", replace=True) as folder:
            (folder / text).write_text(text)
            if text == "bad":
                raise OSError("no")

    for text in ("first", "second"):
        write(text)
        assert [path.name for path in (tmp_path / "new").iterdir()] == [text]
    with pytest.raises(OSError, match="no"):
        write("bad")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_write_json(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": [1, 2.5, None], "b": "text"})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None], "b": "text"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["b"] == "text"


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "a\0b", "file/below"])
def test_what_cannot_be_looked_up_does_not_exist(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert not exists(tmp_path / name)
    assert not is_file(tmp_path / name)


def test_kinds_of_entries(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert exists(tmp_path) and not is_file(tmp_path)
    assert exists(tmp_path / "pipe") and not is_file(tmp_path / "pipe")
    assert exists(tmp_path / "file") and is_file(tmp_path / "file")


# -- what processes leave that are killed ---------------------------------------------------------

KILLED = """
import os, signal, sys, time
from pathlib import Path
from lfm_runtime.disk.files import atomic_file, atomic_folder, temporary_folder
kind, path = sys.argv[1], Path(sys.argv[2])
writing = {
    "file": lambda: atomic_file(path),
    "folder": lambda: atomic_folder(path),
    "temporary": lambda: temporary_folder(path),
    "kept": lambda: atomic_folder(path, keep_unfinished=True),
}[kind]()
with writing as temporary:
    if temporary.is_dir():
        (temporary / "inside").write_text("half")
    else:
        temporary.unlink()  # as writers do that make the file themselves
        temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.readline()
"""


def writer(kind: str, path: Path) -> tuple[subprocess.Popen[str], Path]:
    """Return a process in the middle of writing, and where it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, kind, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("kind", ["file", "folder", "temporary"])
def test_what_a_killed_process_left_is_removed_by_the_next_writer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    process, temporary = writer(kind, tmp_path / "out.zarr")
    write_text(tmp_path / "other", "x")
    assert temporary.exists(), "its process is alive"
    process.kill()
    process.communicate()
    assert temporary.exists()
    caplog.clear()
    write_text(tmp_path / "other", "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{temporary}: removed, process {process.pid} on ")


def test_what_is_worth_keeping_is_named_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process, temporary = writer("kept", tmp_path / "run.zarr")
    process.kill()
    process.communicate()
    for _ in range(2):
        with atomic_folder(tmp_path / "run.zarr", keep_unfinished=True):
            pass
        shutil.rmtree(tmp_path / "run.zarr")
    assert (temporary / "inside").read_text() == "half"
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        f"{temporary}: holds what process {process.pid} on "
    ) and caplog.messages[0].endswith("look at it, and remove it when it is of no use")
    shutil.rmtree(temporary)
    write_text(tmp_path / "other", "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


def test_what_nobody_can_say_to_be_abandoned_stays(tmp_path: Path) -> None:
    (tmp_path / ".tmp-older").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / ".lock-pipe")
    (folder / ".lock-link").symlink_to(outside / "file")
    (folder / ".lock-a").touch()
    (folder / ".tmp-a").symlink_to(outside)
    write_text(folder / "new", "x")
    write_text(tmp_path / "new", "x")
    assert (tmp_path / ".tmp-older").is_dir()
    assert (outside / "file").read_text() == "x"
    assert sorted(p.name for p in folder.iterdir()) == [".lock-link", ".lock-pipe", "new"]


@pytest.mark.parametrize("name", ["x" * 250, "é" * 120, "語" * 80, "a.b.c", "-", ".hidden"])
def test_any_name(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    with atomic_folder(tmp_path / "sub" / name):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {name, "sub"}
    assert [p.name for p in (tmp_path / "sub").iterdir()] == [name]


# -- two processes --------------------------------------------------------------------------------


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    process, _ = writer("folder", tmp_path / "out")
    with (
        pytest.raises(InputError, match=f"out: process {process.pid} on .* is writing it now"),
        atomic_folder(tmp_path / "out"),
    ):
        pass
    with atomic_folder(tmp_path / "out2"):
        pass
    process.communicate("\n")
    assert (tmp_path / "out" / "inside").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out2"]


def test_a_folder_that_somebody_else_makes_meanwhile(tmp_path: Path) -> None:
    with (
        pytest.raises(FileExistsError, match="another process has written it meanwhile"),
        atomic_folder(tmp_path / "out"),
    ):
        write_text(tmp_path / "out" / "file", "x")
    assert (tmp_path / "out" / "file").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_waiting_for_the_other_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entered, left = threading.Event(), []

    def work() -> None:
        with only_writer(tmp_path / "out"):
            entered.set()
            while not caplog.messages:
                time.sleep(0.01)
            left.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    with only_writer(tmp_path / "out", wait=True):
        assert left
    thread.join()
    assert "out: waiting until process" in caplog.messages[0]
    assert not list(tmp_path.iterdir())


# -- errors name the file -------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "temporary", "other"])
def test_errors_name_what_is_written(tmp_path: Path, given: str | None) -> None:
    other = str(tmp_path / "source")
    with pytest.raises(OSError) as caught, atomic_folder(tmp_path / "out") as temporary:
        names = {None: (), "temporary": (str(temporary / "a" / "b"),), "other": (other,)}
        raise OSError(errno.ENOSPC, "No space left on device", *names[given])
    expected = {None: tmp_path / "out", "temporary": tmp_path / "out/a/b", "other": other}[given]
    assert caught.value.filename == str(expected)


def test_what_a_full_disk_is_told_by() -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device", __file__))
    assert re.fullmatch(rf".*'{__file__}': [\d,]+ bytes are free there without it", full)
    assert "your quota is used up" in explain(OSError(errno.EDQUOT, "x", __file__))
    assert "see 'ulimit -f'" in explain(OSError(errno.EFBIG, "x", __file__))
    assert explain(OSError(errno.EACCES, "Permission\ndenied")) == "[Errno 13] Permission denied"
    assert explain(OSError(errno.ENOSPC, "full", "a\0b")).startswith("[Errno 28] full: 'a\\x00b': ")


# -- names that others can tell in advance --------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "pipe", "folder", "device"])
def test_nothing_else_is_written_to(tmp_path: Path, kind: str) -> None:
    target, path = tmp_path / "target", tmp_path / "name"
    if kind != "dangling":
        target.write_text("mine")
    if kind in ("link", "dangling"):
        path.symlink_to(target)
    elif kind == "hard link":
        path.hardlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/full")
    with pytest.raises(InputError, match="name: is a link, a file with another name too, or no f"):
        open_unlinked(path)
    assert not target.exists() if kind == "dangling" else target.read_text() == "mine"


def test_going_on_with_a_file(tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        with open_unlinked(tmp_path / "name") as file:
            file.write(text)
    assert (tmp_path / "name").read_bytes() == b"onetwo"
