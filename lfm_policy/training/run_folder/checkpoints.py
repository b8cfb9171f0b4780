"""The checkpoints of a run: written whole, the newest one named by ``latest``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from lfm_policy.checkpoint_folders import CHECKPOINTS, LATEST_FILE
from lfm_policy.errors import InputError
from lfm_policy.training.run_folder.best import BEST
from lfm_policy.training.run_folder.metrics import METRICS_FILE
from lfm_policy.training.run_folder.tracker import BOARD_FOLDER, RUN_FILE
from lfm_runtime.disk.files import atomic_folder, read_line, write_text
from lfm_runtime.disk.full import FULL, explain
from lfm_runtime.disk.leftovers import remove_leftovers
from lfm_runtime.disk.locks import FileLock, LockedError, check_free

FINAL = "final"
"""Name of the checkpoint of a complete run; a run that was continued with more steps adds them to
it: ``final-48000``."""

LOCK = ".lock"
"""Held in the run folder by the one process that writes there; it ends with that process."""


class RunFolder:
    """Checkpoint folders below ``<run>/checkpoints``; nobody ever sees half of one."""

    def __init__(self, path: Path, *, keep: int) -> None:
        """Manage ``path``, keeping the newest ``keep`` checkpoints."""
        self.path = path
        self._keep = keep

    def check_not_running(self) -> None:
        """Check that no other process trains in this folder.

        Raises:
            InputError: one does; the message says which.
        """
        try:
            check_free(self.path / LOCK)
        except LockedError as error:
            raise self._running(error) from None

    @contextlib.contextmanager
    def running(self, expected: Path | None) -> Iterator[None]:
        """Keep other processes out of this folder, which is made.

        Args:
            expected: the newest checkpoint, as this process found it before.

        Raises:
            InputError: another process trains there, or has meanwhile.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock.take(self.path / LOCK)
        except LockedError as error:
            raise self._running(error) from None
        try:
            if self.latest() != expected:
                raise InputError(
                    f"{self.path}: another process has trained there meanwhile; continue its run "
                    "with --resume, or choose another folder with --output"
                )
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Say what to do when the system refuses to write.

        Raises:
            InputError: it does, as on a full disk.
        """
        try:
            yield
        except OSError as error:
            latest = self.latest()
            kept = f"the last good checkpoint is {latest}" if latest else "no checkpoint is there"
            mend = "make room" if error.errno in FULL else "mend that"
            raise InputError(
                f"{explain(error)}; {kept}: {mend}, then continue with --resume"
            ) from error

    def _running(self, error: LockedError) -> InputError:
        return InputError(
            f"{self.path}: {error} is training in this folder: wait until it has ended or stop it, "
            "or choose another folder with --output"
        )

    @staticmethod
    def final_name(passes: int, steps: int) -> str:
        """Return the name of the last checkpoint of a run with so many passes and steps."""
        return FINAL if passes == 1 else f"{FINAL}-{steps}"

    def checkpoint(self, name: str) -> Path:
        """Return the folder of the checkpoint called ``name``."""
        return self.path / CHECKPOINTS / name

    def latest(self) -> Path | None:
        """Return the newest checkpoint, None without one."""
        pointer = self.path / LATEST_FILE
        if not pointer.exists():
            return None
        return self.checkpoint(read_line(pointer))

    def write(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Make the checkpoint ``name`` appear, make it the latest, and drop old ones.

        Those of a complete run stay, whatever it is continued with, and so does the best one.

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

    def replace(self, name: str, fill: Callable[[Path], None]) -> None:
        """Make the checkpoint ``name`` appear in place of what it was; it is not the latest."""
        with atomic_folder(self.checkpoint(name), replace=True) as temporary:
            fill(temporary)

    def clear_leftovers(self) -> None:
        """Remove what a run that was killed before its first checkpoint left behind."""
        for name in (CHECKPOINTS, BOARD_FOLDER, "wandb"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for file in (self.path / METRICS_FILE, self.path / RUN_FILE, *self.path.glob(".tmp-*")):
            file.unlink(missing_ok=True)

    def _remove_old(self, newest: str) -> None:
        remove_leftovers(self.path / CHECKPOINTS)
        folders = [f for f in (self.path / CHECKPOINTS).iterdir() if f.is_dir()]
        # Names that begin with a dot are unfinished folders of killed processes, older ones too.
        unfinished = [f for f in folders if f.name.startswith(".")]
        old = [f for f in folders if f not in unfinished and f.name != newest]
        old = [f for f in old if f.name != BEST and f.name.partition("-")[0] != FINAL]
        old.sort(key=lambda f: f.stat().st_mtime)
        for folder in [*unfinished, *old[: max(len(old) - (self._keep - 1), 0)]]:
            shutil.rmtree(folder, ignore_errors=True)
