"""Writes down what happens in a run, as a replay buffer that can be trained on."""

from __future__ import annotations

import bisect
import contextlib
import json
import logging
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lfm_runtime.closing import Closing
from lfm_runtime.control.recording.zarr_writer import (
    ArrayWriter,
    TableWriter,
    write_bytes,
    write_group,
)
from lfm_runtime.control.result import ChunkRecord, StepRecord
from lfm_runtime.disk.files import atomic_folder, exists, require_absent
from lfm_runtime.errors import InputError
from lfm_runtime.interrupt import signals_held_back

_LOG = logging.getLogger("lfm_runtime.control")

FORMAT_VERSION = 1
_QUEUE_BYTES = 2**29
"""Of observations that wait to be written: a robot has to have this much memory to spare."""
_ROW_BYTES = 4096
"""What a row takes beside its arrays, at most."""
_METADATA_BYTES = 2**19
"""Room for the small files of a store, a few kilobytes each."""

STEP_FIELDS: dict[str, type[np.generic]] = {
    "time": np.float64,
    "observed": np.float64,
    "kind": np.uint8,
    "step": np.int64,
    "chunk": np.int64,
    "limited": np.uint8,
    "obs_valid": np.uint8,
    "failed": np.uint8,
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
    "length": np.int64,
}
"""Fields of `ChunkRecord` under ``chunks/``, beside ``chunks/action`` and ``chunks/episode``."""


class _NotKept(Exception):
    """There is nothing to keep under the name of the recording."""


class Recorder(Closing):
    """Records runs into one zarr store (format v2), each as an episode::

        data/<observation>    (T, *shape)          of the tick, or the last good one
        data/action           (T, action_dim)      executed, after all limits
        meta/episode_ends     (E,)
        steps/<field>         (T,)                 see `StepRecord`
        chunks/action         (C, n, action_dim)   every chunk as the policy gave it
        chunks/<field>        (C,)                 see `ChunkRecord`; ``episode`` too

    ``n`` is the length of the longest chunk; shorter ones end with NaN, see ``chunks/length``.

    Files are written by a thread of their own. The store appears under its name when the recorder
    is closed, also after an error: what led to it is what one wants to see. When something cannot
    be written, the recording ends there, what was written before is kept, and the loop goes on;
    the error is logged once, and is `error`. Space for what is in memory is taken beforehand, so
    that a disk which fills up does not take the beginning too. Of a process that is killed
    (SIGKILL) there is no recording.

    Attributes:
        path: of the store.
        error: why the recording is not complete; None while it is.
        actions_kept: actions in the store; known when it is closed.
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
            InputError: ``path`` exists already, or the attributes are no JSON.
        """
        self.path = Path(path)
        require_absent(self.path)
        given = {**(attributes or {}), "format_version": FORMAT_VERSION}
        try:
            # Now and not at the end, when a recording could be lost because of them.
            self._attributes: dict[str, Any] = json.loads(json.dumps(given, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: the attributes cannot be stored as JSON: {error}") from None
        self.error: Exception | None = None
        self.actions_kept = 0
        self._files = contextlib.ExitStack()
        self._folder = self._files.enter_context(atomic_folder(self.path, keep_unfinished=True))
        self._wait = wait
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any], int] | None]
        self._queue = queue.SimpleQueue()  # tables, rows and their bytes
        self._room = threading.Condition()
        self._waiting_bytes = 0
        self._tables = {
            "steps": TableWriter(self._folder),
            "chunks": TableWriter(self._folder, padded="chunks/action"),
        }
        self._steps_before: list[int] = []  # of each chunk, actions that were written before
        self._reserved = 0
        self._reserves: list[Path] = []
        self._rows = 0
        self._ends: list[int] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="lfm-recorder", daemon=True)
        self._thread.start()

    def step(self, record: StepRecord) -> None:
        """Add an executed action with its observation; returns at once."""
        # Copies, because they are written later.
        rows: dict[str, Any] = {f"data/{key}": np.array(value) for key, value in record.obs.items()}
        rows["data/action"] = np.array(record.action)
        for name, dtype in STEP_FIELDS.items():
            rows[f"steps/{name}"] = np.asarray(getattr(record, name), dtype=dtype)
        if self._put("steps", rows):
            self._rows += 1

    def chunk(self, record: ChunkRecord) -> None:
        """Add an answer of the policy, of any length; returns at once."""
        rows: dict[str, Any] = {"chunks/action": np.array(record.actions)}
        rows["chunks/episode"] = np.int64(len(self._ends))
        for name, dtype in CHUNK_FIELDS.items():
            rows[f"chunks/{name}"] = np.asarray(getattr(record, name), dtype=dtype)
        self._put("chunks", rows)

    def end_episode(self) -> None:
        """End the episode; one in which no action was executed leaves nothing."""
        if self._rows > (self._ends[-1] if self._ends else 0):
            self._ends.append(self._rows)

    @property
    def episodes(self) -> int:
        """Episodes that are over, without those that left nothing."""
        return len(self._ends)

    def note(self, name: str, value: Any) -> None:
        """Keep a fact beside the attributes, such as how an episode ended.

        Args:
            name: of the attribute.
            value: plain JSON.

        Raises:
            ValueError: it is a number that is not finite.
            TypeError: it is no JSON.
        """
        self._attributes[name] = json.loads(json.dumps(value, allow_nan=False))

    def close(self) -> None:
        """Finish the store and give it its name; without any action there is none.

        Nothing is raised because of the disk: see `error`. Signals wait until it is done.
        """
        if self._closed:
            return
        self._closed = True
        with signals_held_back():
            self._queue.put(None)
            self._thread.join()
            self.end_episode()
            try:
                with contextlib.suppress(_NotKept), self._files:
                    self._finish()
            except OSError as error:
                self.actions_kept = 0
                self._fail(error)

    # -- inside -------------------------------------------------------------------------------

    def _put(self, table: str, rows: dict[str, Any]) -> bool:
        if self.error is not None or self._closed:
            return False
        size = _ROW_BYTES + sum(np.asarray(value).nbytes for value in rows.values())
        with self._room:
            if self._wait:
                self._room.wait_for(lambda: self._has_room(size))
            elif not self._has_room(size):
                self._fail(TimeoutError("the disk, or packing for it, is too slow"))
                return False
            self._waiting_bytes += size
        self._queue.put((table, rows, size))
        return True

    def _has_room(self, size: int) -> bool:
        return not self._waiting_bytes or self._waiting_bytes + size <= _QUEUE_BYTES

    def _fail(self, error: Exception) -> None:
        """Note the first error, which ends the recording."""
        if self.error is None:
            self.error = error
            _LOG.error("the recording %s ends here: %s", self.path, error)

    def _work(self) -> None:
        failed = False
        while (item := self._queue.get()) is not None:
            table, rows, size = item
            with self._room:
                self._waiting_bytes -= size
                self._room.notify()
            if failed:
                continue
            try:
                self._tables[table].append(rows)
                if table == "chunks":
                    self._steps_before.append(len(self._tables["steps"]))
                self._reserve()
            except Exception as error:  # the robot moves on, and somebody must empty the queue
                self._fail(error)
                failed = True

    def _reserve(self) -> None:
        """Take the space on the disk that the rows in memory will need."""
        needed = sum(table.buffered_bytes for table in self._tables.values()) + _METADATA_BYTES
        if needed <= self._reserved:
            return
        with contextlib.suppress(OSError):  # then it is tried without
            # Random, because file systems may store zeros in no space at all.
            path = self._folder / f".reserve-{len(self._reserves)}"
            write_bytes(path, os.urandom(needed - self._reserved))
            self._reserves.append(path)
        self._reserved = needed

    def _finish(self) -> None:
        for reserve in self._reserves:
            reserve.unlink(missing_ok=True)
        steps = self._tables["steps"]
        if not len(steps):
            raise _NotKept
        try:
            self._finish_tables(len(steps))
        except OSError as error:
            self._fail(error)
            self._finish_tables(steps.rows_on_disk, on_disk=True)
        if not len(steps):
            raise _NotKept
        ends = ArrayWriter(self._folder / "meta" / "episode_ends", (), np.dtype(np.int64))
        # Of an episode that was not written to its end there is the beginning.
        for end in sorted({min(end, len(steps)) for end in self._ends}):
            ends.append(end)
        ends.finish()
        for group in ("data", "meta", "steps", "chunks"):
            write_group(self._folder / group)
        write_group(self._folder, self._attributes)
        self.actions_kept = len(steps)
        if exists(self.path):
            self._keep_beside()

    def _finish_tables(self, n_steps: int, *, on_disk: bool = False) -> None:
        """Write what is in memory, if ``on_disk`` is False, and the metadata of the arrays."""
        steps, chunks = self._tables["steps"], self._tables["chunks"]
        steps.finish(n_steps)
        if len(chunks):
            # No chunk that begins where there are no actions any more.
            n_chunks = bisect.bisect_right(self._steps_before, n_steps)
            chunks.finish(min(n_chunks, chunks.rows_on_disk if on_disk else len(chunks)))

    def _keep_beside(self) -> None:
        """Give the store another name, because there is something under its own by now."""
        number = 2
        while exists(other := self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")):
            number += 1
        os.rename(self._folder, other)
        self._fail(FileExistsError(f"{self.path} exists by now; the recording is {other}"))
        self.path = other
        raise _NotKept
