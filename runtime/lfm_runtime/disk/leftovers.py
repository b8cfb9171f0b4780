"""Temporary files and folders that are found again when the process that wrote them was killed.

Beside each lies a lock, which its process holds for as long as it lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from lfm_runtime.disk.locks import FileLock, LockedError, holder
from lfm_runtime.errors import InputError

_LOG = logging.getLogger("lfm_runtime.disk.files")

TEMPORARY, _LOCK = ".tmp-", ".lock-"
_LONGEST_LABEL = 40
"""Characters of at most 4 bytes, so that the whole name stays below 255."""

_told: set[Path] = set()


@contextlib.contextmanager
def unused_name(path: Path, *, suffix: str = "", keep: bool = False) -> Iterator[Path]:
    """Yield a path beside ``path`` at which there is nothing, until this is left.

    Who uses it makes something there and takes it away. If that does not happen, because the
    process is killed, the next call for the same folder does: see `remove_leftovers`.

    Args:
        path: what is to be written; its folder is made.
        suffix: of the name.
        keep: whether what is left there is worth keeping.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    label = f"{path.name[:_LONGEST_LABEL]}-{secrets.token_hex(4)}"
    # First the lock, so that nothing is ever there without one. Only who clears up can have it.
    lock = FileLock.take(path.parent / f"{_LOCK}{label}", wait=True, facts={"keep": keep})
    try:
        yield path.parent / f"{TEMPORARY}{label}{suffix}"
    finally:
        lock.release()


@contextlib.contextmanager
def only_writer(path: Path, task: str = "write", *, wait: bool = False) -> Iterator[None]:
    """Hold what no other process may write at the same time.

    Args:
        path: what is to be written; its folder is made.
        task: kind of work; one kind may go on within another.
        wait: until another process has done it, instead of raising.

    Raises:
        InputError: another process, or another place of this one, is at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    place = path.parent / f"{_LOCK}{path.name[:_LONGEST_LABEL]}-{digest}.{task}"
    try:
        lock = FileLock.take(place)
    except LockedError as error:
        if not wait:
            raise InputError(
                f"{path}: {error} is writing it now: wait until it has finished, or choose another "
                "name"
            ) from None
        _LOG.warning("%s: waiting until %s has written it", path, error)
        lock = FileLock.take(place, wait=True)
    try:
        yield
    finally:
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are dead have left in a folder, and say so.

    What is worth keeping stays, and is named once. What may belong to a living process, or to
    another user, stays too.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith(_LOCK) and (lock := FileLock.take_abandoned(folder / name)):
            label = TEMPORARY + name.removeprefix(_LOCK)
            left = [folder / n for n in names if n == label or n.startswith(f"{label}.")]
            lock.release(remove=_clear(left, lock))


def _clear(left: list[Path], lock: FileLock) -> bool:
    """Remove what was left; returns whether nothing is there any more."""
    facts = lock.facts
    for path in left:
        if not os.path.lexists(path):
            continue
        if facts.get("keep") is True:
            if path not in _told:
                _told.add(path)
                _LOG.warning(
                    "%s: holds what %s had written when it was killed; look at it, and remove it "
                    "when it is of no use",
                    path,
                    holder(facts),
                )
            return False
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        if os.path.lexists(path):
            return False
        _LOG.warning("%s: removed, %s had left it when it was killed", path, holder(facts))
    return True
