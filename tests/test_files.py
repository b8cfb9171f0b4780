"""Files and folders appear complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfm_policy.files import atomic_file, atomic_folder, exists, is_file, write_json, write_text


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
