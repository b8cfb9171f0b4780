"""Writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

from lfm_runtime.files import (
    atomic_file,
    atomic_folder,
    exists,
    is_file,
    open_unlinked,
    read_line,
    temporary_folder,
    write_json,
    write_text,
)
from lfm_runtime.leftovers import only_writer

__all__ = [
    "atomic_file",
    "atomic_folder",
    "exists",
    "is_file",
    "only_writer",
    "open_unlinked",
    "read_line",
    "temporary_folder",
    "write_json",
    "write_text",
]
