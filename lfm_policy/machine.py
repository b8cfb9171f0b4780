"""What this machine has: CPUs, memory and room on its disks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def usable_cpus() -> int:
    """Return how many CPUs this process may use, where the system can say that; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory() -> int:
    """Return the bytes of memory of this machine, or of what it runs in; 0 where unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system without
        return 0
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else ""
    return max(min(total, int(text)) if text.isdigit() else total, 0)


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or is to be made."""
    above = next(f for f in (folder, *folder.absolute().parents) if f.exists())
    return shutil.disk_usage(above).free
