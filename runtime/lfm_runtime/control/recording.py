"""Writes down what happens in a run, as a replay buffer that can be trained on."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lfm_runtime.control.result import ChunkRecord, StepRecord
from lfm_runtime.control.zarr_writer import ArrayWriter, write_group
from lfm_runtime.errors import InputError
from lfm_runtime.files import atomic_folder, exists

_LOG = logging.getLogger("lfm_runtime.control")

FORMAT_VERSION = 1
_QUEUE_SIZE = 4096

STEP_FIELDS: dict[str, type[np.generic]] = {
    "time": np.float64,
    "observed": np.float64,
    "kind": np.uint8,
    "step": np.int64,
    "chunk": np.int64,
    "limited": np.uint8,
    "obs_valid": np.uint8,
}
"""Fields of `StepRecord` under ``steps/``, one number per executed action."""

CHUNK_FIELDS: dict[str, type[np.generic]] = {
    "number": np.int64,
    "start": np.int64,
    "consumed": np.int64,
    "asked_at": np.float64,
    "answered_at": np.float64,
    "taken_at": np.float64,
    "prefix": np.int64,
}
"""Fields of `ChunkRecord` under ``chunks/``, beside ``chunks/action`` and ``chunks/episode``."""


class _NothingRecorded(Exception):
    """No action was executed, so there is nothing to keep."""


class Recorder:
    """Records runs into one zarr store (format v2), each as an episode::

        data/<observation>    (T, *shape)          of the tick, or the last good one
        data/action           (T, action_dim)      executed, after all limits
        meta/episode_ends     (E,)
        steps/<field>         (T,)                 see `StepRecord`
        chunks/action         (C, n, action_dim)   every chunk as the policy gave it
        chunks/<field>        (C,)                 see `ChunkRecord`; ``episode`` too

    Files are written by a thread of their own. The store appears under its name when the recorder
    is closed, also after an error: what led to it is what one wants to see.
    """

    def __init__(
        self, path: str | Path, attributes: Mapping[str, Any] | None = None, *, wait: bool = False
    ) -> None:
        """Begin a store.

        Args:
            path: folder to create.
            attributes: what else is worth knowing, such as the rate; plain JSON values.
            wait: let the loop wait for a disk that is too slow, instead of ending the recording.

        Raises:
            InputError: ``path`` exists already.
        """
        self.path = Path(path)
        if exists(self.path):
            raise InputError(f"{path} exists already: remove it or choose another name")
        self._files = contextlib.ExitStack()
        self._folder = self._files.enter_context(atomic_folder(self.path, keep_unfinished=True))
        self._attributes = {**(attributes or {}), "format_version": FORMAT_VERSION}
        self._wait = wait
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_QUEUE_SIZE)
        self._writers: dict[str, ArrayWriter] = {}
        self._error: Exception | None = None
        self._ended_early = False
        self._rows = 0
        self._ends: list[int] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="lfm-recorder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def step(self, record: StepRecord) -> None:
        """Add an executed action with its observation; returns at once."""
        rows: dict[str, Any] = {f"data/{key}": value for key, value in record.obs.items()}
        rows["data/action"] = record.action
        for name, dtype in STEP_FIELDS.items():
            rows[f"steps/{name}"] = np.asarray(getattr(record, name), dtype=dtype)
        if self._put(rows):
            self._rows += 1

    def chunk(self, record: ChunkRecord) -> None:
        """Add an answer of the policy; returns at once."""
        rows: dict[str, Any] = {"chunks/action": record.actions}
        rows["chunks/episode"] = np.int64(len(self._ends))
        for name, dtype in CHUNK_FIELDS.items():
            rows[f"chunks/{name}"] = np.asarray(getattr(record, name), dtype=dtype)
        self._put(rows)

    def end_episode(self) -> None:
        """End the episode; one in which no action was executed leaves nothing."""
        if self._rows > (self._ends[-1] if self._ends else 0):
            self._ends.append(self._rows)

    def close(self) -> None:
        """Finish the store and give it its name; without any action there is none.

        Raises:
            OSError: a file could not be written; there is no store then.
        """
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self.end_episode()
        with contextlib.suppress(_NothingRecorded), self._files:
            if self._error is not None:
                raise self._error
            if not self._rows:
                raise _NothingRecorded
            self._finish()

    def _put(self, rows: dict[str, Any]) -> bool:
        if self._ended_early or self._closed:
            return False
        try:
            self._queue.put(rows, block=self._wait)
        except queue.Full:
            _LOG.error("the recording ends here: the disk is too slow")
            self._ended_early = True
            return False
        return True

    def _work(self) -> None:
        while (rows := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                for name, row in rows.items():
                    if name not in self._writers:
                        value = np.asarray(row)
                        folder = self._folder / name
                        self._writers[name] = ArrayWriter(folder, value.shape, value.dtype)
                    self._writers[name].append(row)
            except (OSError, ValueError) as error:
                # The robot moves on; `close` raises it.
                _LOG.error("the recording failed: %s", error)
                self._error = error

    def _finish(self) -> None:
        for writer in self._writers.values():
            writer.finish()
        ends = ArrayWriter(self._folder / "meta" / "episode_ends", (), np.dtype(np.int64))
        for end in self._ends:
            ends.append(end)
        ends.finish()
        write_group(self._folder, self._attributes)
        for group in ("data", "meta", "steps", "chunks"):
            write_group(self._folder / group)
