"""Metrics of a run: one JSON object per line, and the same for its tracker."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lfm_policy.training.run_folder.tracker import BOARD_FOLDER, open_tracker
from lfm_runtime.disk.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends metrics to ``metrics.jsonl`` in a run folder, and passes them on to its tracker.

    Every record has ``kind`` (``estimate``, ``train``, ``validation``, ``push_forward``,
    ``rollout``, ``event``), ``block``, ``step`` (gradient steps of all blocks so far) and ``time``
    (seconds since the epoch).
    """

    def __init__(
        self,
        folder: Path,
        *,
        tracker: str = "tensorboard",
        run_name: str = "",
        options: Mapping[str, Any] | None = None,
        resume_step: int | None = None,
        checkpoint: str = "",
    ) -> None:
        """Open the log.

        Args:
            folder: the run folder.
            tracker: where else the numbers go, see `lfm_policy.training.run_folder.tracker`.
            run_name: what the tracker shows the run as.
            options: the configuration, for the tracker.
            resume_step: what was logged after this step is dropped.
            checkpoint: what was logged after this checkpoint is dropped. This is the finer of the
                two, because a push-forward has no steps of its own.

        Raises:
            InputError: the tracker cannot be started.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / METRICS_FILE
        if resume_step is not None and self._path.exists():
            kept = [r for r in read_metrics(self._path) if r.get("step", 0) <= resume_step]
            messages = [record.get("message") for record in kept]
            if (name := checkpoint_message(checkpoint)) in messages:
                kept = kept[: messages.index(name) + 1]
            write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._tracker_folder = folder / BOARD_FOLDER if tracker == "tensorboard" else folder
        self._tracker = open_tracker(
            tracker, folder, run_name=run_name, options=options, resume_step=resume_step
        )
        self._excepthook = threading.excepthook
        threading.excepthook = self._of_a_thread

    def write(self, kind: str, *, block: int, step: int, **values: Any) -> None:
        """Append one record; its numbers go to the tracker under ``<kind>/<name>``."""
        record = {"kind": kind, "block": block, "step": step, "time": time.time(), **values}
        with _naming(self._path):
            self._file.write(json.dumps(record) + "\n")
        if self._tracker is not None:
            numbers = {
                f"{kind}/{name}": value
                for name, value in values.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            }
            with _naming(self._tracker_folder):
                self._tracker.log(numbers, step=step)

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
        """Flush and close the file and the tracker."""
        try:
            with _naming(self._path):
                self._file.close()
        finally:
            try:
                if self._tracker is not None:
                    with _naming(self._tracker_folder):
                        self._tracker.finish()
            finally:
                threading.excepthook = self._excepthook

    def _of_a_thread(self, failure: threading.ExceptHookArgs) -> None:
        """Pass on what fails in other threads; of TensorBoard's, `write` and `close` raise it."""
        of_board = type(failure.thread).__module__.startswith("tensorboard.")
        if not (of_board and isinstance(failure.exc_value, OSError)):
            self._excepthook(failure)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in errors of which the system does not say where, as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
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
