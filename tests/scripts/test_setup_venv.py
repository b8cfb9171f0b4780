"""Which environment `scripts/setup_venv.sh` would make or use."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "setup_venv.sh"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a script for bash")


def a_python(path: Path, version: str) -> Path:
    """Write a program that says it is a Python of this version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


def folder(root: Path, python: Path | None) -> subprocess.CompletedProcess[str]:
    (root / "scripts").mkdir(exist_ok=True)
    script = shutil.copy(SCRIPT, root / "scripts")
    env = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    if python is not None:
        env["PYTHON"] = str(python)
    return subprocess.run(["bash", script, "--folder"], capture_output=True, text=True, env=env)


def test_another_version_has_a_folder_of_its_own(tmp_path: Path) -> None:
    other = a_python(tmp_path / "python3.12", "3.12")
    assert folder(tmp_path, other).stdout == ".venv\n"  # where there is none yet
    a_python(tmp_path / ".venv" / "bin" / "python", "3.11")
    assert folder(tmp_path, None).stdout == ".venv\n"
    assert folder(tmp_path, a_python(tmp_path / "python3.11", "3.11")).stdout == ".venv\n"
    assert folder(tmp_path, other).stdout == ".venv-3.12\n"


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    done = folder(tmp_path, tmp_path / "python3.19")
    assert done.returncode == 2 and not done.stdout
    assert "python3.19 cannot be run" in done.stderr
