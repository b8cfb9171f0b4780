"""One JSON object per line: what happened, to which connection."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

LOGGER = logging.getLogger("lfm_policy.serving")


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


def log_event(
    event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Any
) -> None:
    """Log an event with named values; with ``error`` its traceback too."""
    LOGGER.log(level, event, extra={"fields": fields}, exc_info=error)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all log records of this process to a stream, one JSON object per line.

    Args:
        level: debug, info, warning or error.
        stream: where to; standard error when left out.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
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
