"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

try:
    import fcntl
except ImportError:  # as on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

_MOST_FACTS = 10_000
_MOMENT = 0.1
"""Seconds for which a lock may be held by one who only looks whether its holder is dead."""
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class LockedError(Exception):
    """Another process holds the lock; ``str`` of it says which."""


class FileLock:
    """An exclusive lock on a file that is there for nothing else; it is gone when released.

    It holds for processes of this machine, in other containers too, and on network file systems
    that pass locks on. Where a file system has no locks, nothing is locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Keep a lock; see `take` and `take_abandoned`, which make one."""
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def take(
        cls, path: Path, *, wait: bool = False, facts: Mapping[str, Any] | None = None
    ) -> Self:
        """Return the lock on ``path``, which is made.

        Args:
            path: of the lock, in a folder that exists.
            wait: until others have released it, instead of raising.
            facts: what others read of the lock, besides process and computer.

        Raises:
            LockedError: another process, or another place of this one, holds it.
            OSError: the file cannot be made.
        """
        deadline = time.monotonic() + _MOMENT
        while True:
            descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o666)
            try:
                _lock(descriptor, wait=wait)
                taken = _is_at(descriptor, path)  # else who held it has just removed it
            except BlockingIOError:
                if time.monotonic() > deadline:
                    error = LockedError(holder(read_facts(descriptor)))
                    os.close(descriptor)
                    raise error from None
                time.sleep(_MOMENT / 5)
                taken = False
            except BaseException:
                os.close(descriptor)
                raise
            if taken:
                break
            os.close(descriptor)
        own = {"pid": os.getpid(), "host": socket.gethostname(), **(facts or {})}
        # What does not fit on a full disk is missing in messages only.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(own).encode(), 0)
        return cls(path, descriptor)

    @classmethod
    def take_abandoned(cls, path: Path) -> Self | None:
        """Return the lock of a process that is dead; None if it lives, or nobody can tell."""
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            if own and fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, path):
                    return cls(path, descriptor)
        except OSError:
            pass  # held, or a file system without locks
        os.close(descriptor)
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """What its last holder said."""
        return read_facts(self._descriptor)

    def release(self, *, remove: bool = True) -> None:
        """Let others have it; ``remove=False`` leaves the file with its facts."""
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


def check_free(path: Path) -> None:
    """Check that nobody holds a lock, which need not exist.

    Raises:
        LockedError: somebody does.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return
    try:
        _lock(descriptor, wait=False)
    except BlockingIOError:
        raise LockedError(holder(read_facts(descriptor))) from None
    finally:
        os.close(descriptor)


def read_facts(descriptor: int) -> dict[str, Any]:
    """Return what the holder of a lock says; empty where that cannot be read."""
    try:
        facts = json.loads(os.pread(descriptor, _MOST_FACTS, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def holder(facts: Mapping[str, Any]) -> str:
    """Return who holds, or held, a lock, in words."""
    if "pid" not in facts:
        return "another process"
    return f"process {facts['pid']!s:.20} on {facts.get('host')!s:.100}"


def _lock(descriptor: int, *, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:  # others come of a file system without locks
        if isinstance(error, BlockingIOError):
            raise


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
