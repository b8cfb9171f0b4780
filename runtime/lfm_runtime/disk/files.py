"""Writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lfm_runtime.disk.full import FULL
from lfm_runtime.disk.leftovers import only_writer, unused_name
from lfm_runtime.errors import InputError

_LONGEST_LINE = 10_000


def exists(path: Path) -> bool:
    """Whether there is anything; False for a path that cannot be looked up, such as a long one."""
    return os.path.exists(path)


def is_file(path: Path) -> bool:
    """Whether it is a regular file (no folder, pipe or device); False as for `exists`."""
    return os.path.isfile(path)


def starts_with(path: Path, signature: bytes) -> bool:
    """Whether a regular file begins with these bytes; a pipe is none, which would wait forever."""
    if not is_file(path):
        return False
    with path.open("rb") as file:
        return file.read(len(signature)) == signature


def require_absent(path: Path) -> None:
    """Check that there is nothing yet where something is to be written.

    Raises:
        InputError: there is.
    """
    if exists(path):
        raise InputError(f"{path} exists already: remove it or choose another name")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # There is no way to read it without setting it.
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is renamed to ``path``.

    On an exception the temporary file is removed and ``path`` stays as it was. What a process that
    was killed has left in the folder is removed before.
    """
    path = Path(path)
    # The suffix stays, because writers of videos and pictures choose the format by it.
    with unused_name(path, suffix=path.suffix) as temporary, _naming(path, temporary):
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            yield temporary
            # It was made for this user alone, and so do some writers of formats; results are as
            # readable as the user's other files.
            temporary.chmod(0o666 & ~_umask())
            _fsync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    path: Path, *, keep_unfinished: bool = False, replace: bool = False
) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it is renamed to ``path``.

    On an exception nothing is left behind, and ``path`` is as it was. What a process that was
    killed has left in the folder is removed before.

    Args:
        path: of the folder to be.
        keep_unfinished: if this process is killed, what it has written is worth keeping: who
            writes there next says where it is, and removes nothing.
        replace: a folder at ``path``, which otherwise must not exist, is replaced. That takes two
            steps: if this process is killed between them, what was there has another name, which
            is said by who writes there next.

    Raises:
        FileExistsError: ``path`` exists already, or somebody made it meanwhile.
        InputError: another process is writing it.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already")
    with (
        only_writer(path),
        unused_name(path, keep=keep_unfinished) as temporary,
        _naming(path, temporary),
        _folder(temporary),
    ):
        yield temporary
        for entry in temporary.rglob("*"):
            if entry.is_file():
                _fsync(entry)
        temporary.chmod(0o777 & ~_umask())
        if replace and path.exists():
            with unused_name(path, keep=True) as before:
                os.rename(path, before)
                try:
                    os.rename(temporary, path)
                except BaseException:
                    os.rename(before, path)
                    raise
                shutil.rmtree(before, ignore_errors=True)
            return
        try:
            os.rename(temporary, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise FileExistsError(
                f"{path} exists already: another process has written it meanwhile"
            ) from None


@contextlib.contextmanager
def temporary_folder(path: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder beside ``path``, and remove it afterwards.

    If this process is killed, the next one who writes beside ``path`` removes it.

    Args:
        path: what it is for and named like; None: a folder among the system's temporary ones.
    """
    path = Path(tempfile.gettempdir()) / "lfm-policy" if path is None else Path(path)
    with unused_name(path) as temporary, _folder(temporary):
        yield temporary


@contextlib.contextmanager
def _folder(temporary: Path) -> Iterator[None]:
    temporary.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors name the file that is written, and not the one that will be gone."""
    try:
        yield
    except OSError as error:
        name = error.filename
        if name is None and error.errno in FULL:
            error.filename = str(path)
        elif isinstance(name, str | os.PathLike):
            below = str(name).removeprefix(str(temporary))
            if below != str(name):
                error.filename = f"{path}{below}"
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused, because JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def open_unlinked(path: Path) -> BinaryIO:
    """Open a file to go on writing it, which is made if there is none.

    For files whose name anybody can tell in advance, and could have put something else at: what is
    written goes to no other place, and waits for nobody.

    Raises:
        InputError: there is a link, something that is no file, or a file with other names too.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise _not_a_file(path) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _not_a_file(path)
    return os.fdopen(descriptor, "a+b")


def read_line(path: Path) -> str:
    """Return the first line of a small text file; empty if there is none, or no file at all."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            return file.readline(_LONGEST_LINE).decode("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _not_a_file(path: Path) -> InputError:
    return InputError(
        f"{path}: is a link, a file with another name too, or no file at all, and would be "
        "overwritten: remove it"
    )
