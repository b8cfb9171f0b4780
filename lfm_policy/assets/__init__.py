"""Data that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lfm_policy.errors import InputError
from lfm_policy.files import exists

DEMONSTRATIONS = "pusht_demonstrations.zarr"


def bundled_demonstrations() -> Path:
    """Return the PushT demonstrations of the package, a zarr replay buffer.

    It holds ``data/state`` (T, 5) and ``data/action`` (T, 2), in pixels and radians, and
    ``meta/episode_ends``.

    Raises:
        InputError: this installation lacks them.
    """
    path = Path(str(resources.files("lfm_policy.assets"))) / DEMONSTRATIONS
    if not exists(path):
        raise InputError(
            f"the bundled demonstrations are missing from this installation ({path}): install "
            "lfm-policy again, or give PushT demonstrations of your own with --dataset "
            "PATH/TO/pusht_cchi_v7_replay.zarr"
        )
    return path


POLICIES = ("pusht-state", "pusht-state-teacher")
"""Trained policies that can be loaded by name."""


def bundled_policy(name: str) -> Path:
    """Return the checkpoint folder of one of `POLICIES`.

    Raises:
        InputError: this installation lacks it.
    """
    path = Path(str(resources.files("lfm_policy.assets"))) / name
    if not exists(path):
        raise InputError(
            f"the bundled policy '{name}' is missing from this installation ({path}): install "
            "lfm-policy again"
        )
    return path
