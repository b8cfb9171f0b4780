"""Files that somebody else may have written: nothing waits, and no size is a surprise."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_runtime.disk.input_files import open_file, read_bounded, read_json_object, sha256_of
from lfm_runtime.errors import InputError

pytestmark = pytest.mark.timeout(60)

READERS: dict[str, Callable[[Path], Any]] = {
    "open_file": open_file,
    "read_bounded": lambda path: read_bounded(path, 100),
    "read_json_object": read_json_object,
    "sha256_of": sha256_of,
}


@pytest.fixture(params=["nothing", "pipe", "device", "device-link", "socket", "folder", "dangling"])
def bad(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that is no regular file."""
    path = tmp_path / "bad"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "device":
            return Path("/dev/zero")
        case "device-link":
            path.symlink_to("/dev/zero")
        case "socket":
            monkeypatch.chdir(tmp_path)  # names of sockets are short
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("bad")
        case "folder":
            path.mkdir()
        case "dangling":
            path.symlink_to(tmp_path / "missing")
    return path


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(bad: Path, reader: str) -> None:
    with pytest.raises(InputError, match=r": expected a file, found (nothing|something that is)"):
        READERS[reader](bad)


def test_a_pipe_that_takes_the_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the path and its opening."""
    path = tmp_path / "file"
    path.write_text("{}")
    opening = os.open

    def swapping(name: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opening(name, flags)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(InputError, match="found something that is not a regular file"):
        open_file(path)


def test_what_is_read(tmp_path: Path) -> None:
    content = json.dumps({"a": 1}).encode()
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "link"):
        assert read_bounded(path, len(content)) == content
        assert read_json_object(path) == {"a": 1}
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()
        with open_file(path) as file:
            assert file.read() == content


def test_a_file_of_more_bytes_than_expected(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)  # takes no disk
    with pytest.raises(InputError, match="has more than 100 bytes, far more than expected"):
        read_bounded(tmp_path / "file", 100)
    with pytest.raises(InputError, match="has more than 1,000,000 bytes"):
        read_json_object(tmp_path / "file")
