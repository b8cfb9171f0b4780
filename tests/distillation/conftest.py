"""What all tests of distillation start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture()
def teacher(small_run: Path, tmp_path: Path) -> Path:
    """A copy of a small teacher of two blocks."""
    return Path(shutil.copytree(small_run, tmp_path / "teacher"))
