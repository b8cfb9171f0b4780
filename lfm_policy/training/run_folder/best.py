"""The best policy of a run by rollouts: the checkpoint ``best``, beside those that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lfm_policy.checkpoint_folders import CHECKPOINTS, CONFIG_FILE
from lfm_policy.policy.checkpoint import CheckpointHeader, read_header
from lfm_runtime.disk.files import is_file

BEST = "best"
"""Its name among the checkpoints of a run; it is never removed, only replaced by a better one."""

SELECTION = "selection"
"""What its ``training`` says of the rollouts, see `lfm_policy.training.selection.Score`."""


def read_best(run: Path) -> CheckpointHeader | None:
    """Return the best checkpoint of a run, None where it has none.

    Raises:
        InputError: it is damaged.
    """
    folder = run / CHECKPOINTS / BEST
    return read_header(folder) if is_file(folder / CONFIG_FILE) else None


def best_in_words(header: CheckpointHeader) -> str:
    """Return at which step a best checkpoint was, how good it was, and how to use it."""
    found: dict[str, Any] = header.training.get(SELECTION) or {}
    n, successes = found.get("episodes", 0), found.get("successes")
    interval = f"(95% interval {found.get('low', 0.0):.3f} to {found.get('high', 0.0):.3f})"
    reward = f"mean of the largest rewards {found.get('score', 0.0):.3f}"
    if successes is None:
        result = f"{reward} {interval}, n = {n}"
    else:
        result = f"{successes}/{n} successes {interval}, {reward}"
    return (
        f"best by rollouts: step {header.training['steps']:,}, {result}, selection seeds from "
        f"{found.get('seed_start', 0)}; it was chosen as the best of several, so measure it on "
        f"other seeds: lfm-policy eval {header.folder}"
    )
