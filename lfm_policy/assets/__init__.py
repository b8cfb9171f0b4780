"""Data that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists

DEMONSTRATIONS = "pusht_demonstrations.zarr"


POLICIES = ("pusht-state", "pusht-state-teacher", "pusht-image")
"""Trained policies that can be loaded by name."""


def bundled_demonstrations() -> Path:
    """Return the PushT demonstrations of the package, a zarr replay buffer.

    It holds ``data/state`` (T, 5) and ``data/action`` (T, 2), in pixels and radians, and
    ``meta/episode_ends``.

    Raises:
        InputError: this installation lacks them.
    """
    return _bundled(
        DEMONSTRATIONS,
        "the bundled demonstrations are",
        ", or give PushT demonstrations of your own with --dataset "
        "PATH/TO/pusht_cchi_v7_replay.zarr",
    )


def bundled_policy(name: str) -> Path:
    """Return the checkpoint folder of one of `POLICIES`.

    Raises:
        InputError: this installation lacks it.
    """
    return _bundled(name, f"the bundled policy '{name}' is")


def results_folder(checkpoint: str | Path) -> Path:
    """Return where what is made of a checkpoint belongs by default: beside it, or in runs/<name>.

    The latter is for policies that come with the package, which is no place to write to.
    """
    path = Path(checkpoint)
    return path if path.exists() else Path("runs") / path.name


def _bundled(name: str, what: str, advice: str = "") -> Path:
    path = Path(str(resources.files("lfm_policy.assets"))) / name
    if not exists(path):
        raise InputError(
            f"{what} missing from this installation ({path}): install lfm-policy again{advice}"
        )
    return path
