"""Metrics of a run: one JSON object per line, and the same for TensorBoard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

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
        self._file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both logs."""
        self._file.close()
        self._board.close()


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
