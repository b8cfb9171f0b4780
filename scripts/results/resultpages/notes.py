"""Measurements that no script writes: docs/results/data/notes/*.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lfm_policy.errors import InputError

NEEDED = ("how", "n")
"""What every note says beside its values: how it was measured, and of how much."""


def read_notes(data: Path) -> dict[str, dict[str, Any]]:
    """Return the notes of every file, by its name.

    Raises:
        InputError: a note does not say how it was measured, or of how much.
    """
    found = {}
    for path in sorted((data / "notes").glob("*.yaml")):
        notes = yaml.safe_load(path.read_text())
        for name, note in notes.items():
            if missing := [key for key in NEEDED if not note.get(key)]:
                raise InputError(f"{path}: {name} does not say {' and '.join(missing)}")
        found[path.stem] = notes
    return found
