"""What can be said of a file that could not be written, by the system's own numbers."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Only writing fails with these, so that the file is the one that is being written."""


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
