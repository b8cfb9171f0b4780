"""Metrics of a run: one JSON object per line, and the same for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lfm_policy.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends metrics to ``metrics.jsonl`` and to TensorBoard event files in a run folder.

    Every record has ``kind`` (``train``, ``validation``, ``push_forward``, ``event``), ``block``,
    ``step`` (gradient steps of all blocks so far) and ``time`` (seconds since the epoch).
    """

    def __init__(
        self, folder: Path, *, resume_step: int | None = None, checkpoint: str = ""
    ) -> None:
        """Open the log.

        Args:
            folder: the run folder.
            resume_step: what was logged after this step is dropped.
            checkpoint: what was logged after this checkpoint is dropped. This is the finer of the
                two, because a push-forward has no steps of its own.
        """
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS_FILE
        if resume_step is not None and self._path.exists():
            kept = [r for r in read_metrics(self._path) if r.get("step", 0) <= resume_step]
            messages = [record.get("message") for record in kept]
            if (name := checkpoint_message(checkpoint)) in messages:
                kept = kept[: messages.index(name) + 1]
            write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        purge = None if resume_step is None else resume_step + 1
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def write(self, kind: str, *, block: int, step: int, **values: Any) -> None:
        """Append one record; numbers go to TensorBoard under ``<kind>/<name>``."""
        record = {"kind": kind, "block": block, "step": step, "time": time.time(), **values}
        with self._naming():
            self._file.write(json.dumps(record) + "\n")
            for name, value in values.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What went wrong first is to be known, and not that the disk is full for this too.
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
            self.close()

    def close(self) -> None:
        """Flush and close both logs."""
        with self._naming():
            try:
                self._file.close()
            finally:
                self._board.close()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Name the folder in errors of a full disk, of which the system does not say where."""
        try:
            yield
        except OSError as error:
            if error.filename is None and error.errno is not None:
                error.filename = str(self._path)
            raise


def checkpoint_message(name: str) -> str:
    """Return the message of the event with which a checkpoint is logged, once it is written."""
    return f"checkpoint {name}"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; a last line cut off by a crash is left out."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
