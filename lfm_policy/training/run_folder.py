"""The checkpoints of a run: written whole, the newest one named by ``latest``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from lfm_policy.files import atomic_folder, write_text
from lfm_policy.policy.checkpoint import CHECKPOINTS, LATEST_FILE
from lfm_policy.training.metrics import METRICS_FILE

FINAL = "final"


class RunFolder:
    """Checkpoint folders below ``<run>/checkpoints``; nobody ever sees half of one."""

    def __init__(self, path: Path, *, keep: int) -> None:
        """Manage ``path``, keeping the newest ``keep`` checkpoints."""
        self.path = path
        self._keep = keep

    def checkpoint(self, name: str) -> Path:
        """Return the folder of the checkpoint called ``name``."""
        return self.path / CHECKPOINTS / name

    def latest(self) -> Path | None:
        """Return the newest checkpoint, None without one."""
        pointer = self.path / LATEST_FILE
        if not pointer.exists():
            return None
        return self.checkpoint(pointer.read_text(encoding="utf-8").strip())

    def write(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Make the checkpoint ``name`` appear, make it the latest, and drop old ones.

        Args:
            name: depends on the position in the run alone. A resumed run comes past checkpoints
                of its own; they hold the same state, so they stay as they are.
            fill: writes all files into the (temporary) folder it is given.
        """
        target = self.checkpoint(name)
        if not target.exists():
            with atomic_folder(target) as temporary:
                fill(temporary)
        write_text(self.path / LATEST_FILE, name + "\n")
        self._remove_old(name)
        return target

    def clear_leftovers(self) -> None:
        """Remove what a run that was killed before its first checkpoint left behind."""
        for name in (CHECKPOINTS, "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for file in (self.path / METRICS_FILE, *self.path.glob(".tmp-*")):
            file.unlink(missing_ok=True)

    def _remove_old(self, newest: str) -> None:
        folders = [f for f in (self.path / CHECKPOINTS).iterdir() if f.is_dir()]
        # Names that begin with a dot are unfinished folders of killed processes.
        unfinished = [f for f in folders if f.name.startswith(".")]
        old = [f for f in folders if f not in unfinished and f.name != newest]
        old.sort(key=lambda f: f.stat().st_mtime)
        for folder in [*unfinished, *old[: max(len(old) - (self._keep - 1), 0)]]:
            shutil.rmtree(folder, ignore_errors=True)
