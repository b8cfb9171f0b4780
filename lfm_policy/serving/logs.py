"""One JSON object per line: what happened, to which connection."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

LOGGER = logging.getLogger("lfm_policy.serving")

INTERVAL_SECONDS = 10.0
"""Lines of one kind are counted anew after this time."""
MAXIMUM_LINES = 500
"""Lines of one kind in an interval: more than the robots that come and go at once."""
MAXIMUM_COMPLAINTS = 20
"""The same for warnings and errors, which one client can cause as often as it likes."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Line breaks and control characters in what a client sent are escaped, so that it cannot write
    lines of its own into the log.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


@dataclass
class _Interval:
    """Lines of one kind since a time."""

    record: logging.LogRecord
    ends: float
    bound: int
    seen: int = 0


class RateLimitedHandler(logging.StreamHandler[TextIO]):
    """Writes so many lines of one kind in an interval, and then how many there were besides.

    A kind is a logger, a level and an event, with its reason if it has one. The count is written
    with the first line of any kind after the interval, or at the end.

    Args:
        stream: where to.
        clock: seconds that never go back.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._intervals: dict[tuple[str, int, str, str], _Interval] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, or count it."""
        now = self._clock()
        self._end_intervals(now)
        fields = getattr(record, "fields", {})
        kind = (record.name, record.levelno, str(record.msg), str(fields.get("reason", "")))
        if kind not in self._intervals:
            usual = MAXIMUM_COMPLAINTS if record.levelno >= logging.WARNING else MAXIMUM_LINES
            bound = getattr(record, "burst", None) or usual
            self._intervals[kind] = _Interval(record, now + INTERVAL_SECONDS, bound)
        interval = self._intervals[kind]
        interval.seen += 1
        if interval.seen <= interval.bound:
            super().emit(record)

    def close(self) -> None:
        """Write what has been counted."""
        self.acquire()
        try:
            self._end_intervals(float("inf"))
        finally:
            self.release()
        super().close()

    def _end_intervals(self, now: float) -> None:
        ended = [kind for kind, interval in self._intervals.items() if interval.ends <= now]
        for kind in ended:
            interval = self._intervals.pop(kind)
            if interval.seen > interval.bound:
                first, left_out = interval.record, interval.seen - interval.bound
                fields = {"repeated": first.getMessage(), "times": left_out}
                if kind[3]:
                    fields["reason"] = kind[3]
                summary = logging.LogRecord(
                    first.name, first.levelno, first.pathname, 0, "lines left out", None, None
                )
                summary.fields = fields
                super().emit(summary)


def log_event(
    event: str,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
    burst: int | None = None,
    **fields: Any,
) -> None:
    """Log an event with named values.

    Args:
        event: what happened; the same text for all events of a kind.
        level: of `logging`.
        error: its traceback is logged too.
        burst: lines of this kind in an interval of `RateLimitedHandler`, if not the usual number.
        fields: the values; ``reason`` tells kinds of an event apart.
    """
    LOGGER.log(level, event, extra={"fields": fields, "burst": burst}, exc_info=error)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all log records of this process to a stream, one JSON object per line.

    What is repeated without end is counted instead of written, see `RateLimitedHandler`.

    Args:
        level: debug, info, warning or error.
        stream: where to; standard error when left out.
    """
    handler = RateLimitedHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    library = logging.getLogger("websockets.server")
    library.setLevel(max(logging.WARNING, logging.getLogger().level))
    library.filters = [_without_handshake_traceback]


def _without_handshake_traceback(record: logging.LogRecord) -> bool:
    """Keep that a handshake failed, without its traceback: port scanners do that all day."""
    if "handshake failed" in record.getMessage():
        record.exc_info = None
    return True
