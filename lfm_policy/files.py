"""Writing files and folders so that nobody ever sees half of one."""

from __future__ import annotations

from lfm_runtime.files import atomic_file, atomic_folder, exists, is_file, write_json, write_text

__all__ = ["atomic_file", "atomic_folder", "exists", "is_file", "write_json", "write_text"]
