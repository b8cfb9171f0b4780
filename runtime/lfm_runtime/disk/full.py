"""Disks without room: known before something is written, and said in the system's own numbers."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Only writing fails with these, so that the file is the one that is being written."""


def reserve(descriptor: int, size: int) -> None:
    """Take the room for ``size`` bytes of a file, where the system can do that.

    Raises:
        OSError: there is no room.
    """
    allocate = getattr(os, "posix_fallocate", None)  # not on a Mac
    if allocate is None:
        return
    try:
        allocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of file systems that cannot
            raise


def explain(error: OSError) -> str:
    """Return one line about an error: what the system says, and how much room there is."""
    text = " ".join(str(error).split())
    if error.errno not in FULL:
        return text
    if error.errno == errno.EFBIG:
        return f"{text}: larger than files may be here (see 'ulimit -f')"
    free = _free(Path(str(error.filename))) if error.filename else None
    if error.errno == errno.EDQUOT:
        return f"{text}: your quota is used up"
    return text if free is None else f"{text}: {free:,} bytes are free there without it"


def _free(path: Path) -> int | None:
    for folder in path.absolute().parents:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None
