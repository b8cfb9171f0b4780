"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

_REPOSITORY = Path(__file__).resolve().parent.parent


def _find_pusht() -> Path | None:
    named = os.environ.get("LFM_POLICY_PUSHT_ZARR")
    beside = _REPOSITORY.parent / "shared" / "data" / "pusht" / "pusht_cchi_v7_replay.zarr"
    for candidate in (Path(named) if named else None, beside):
        if candidate is not None and candidate.exists():
            return candidate
    return None


@pytest.fixture(scope="session")
def pusht_zarr() -> Path:
    """Path of the 206 human PushT demonstrations; the test is skipped where they are absent."""
    path = _find_pusht()
    if path is None:
        pytest.skip(
            "the human PushT demonstrations are absent: set LFM_POLICY_PUSHT_ZARR to the path of "
            "pusht_cchi_v7_replay.zarr"
        )
    return path
