"""One JSON object per line, whatever clients send."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from lfm_policy.serving.logs import (
    INTERVAL_SECONDS,
    MAXIMUM_COMPLAINTS,
    MAXIMUM_LINES,
    JsonFormatter,
    RateLimitedHandler,
    configure_logging,
    log_event,
)


@pytest.fixture
def stream(unchanged_logging: None) -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", stream)
    return stream


def test_a_line_is_an_object_with_named_values(stream: io.StringIO) -> None:
    log_event("bad request", level=logging.WARNING, text='"}\nfake line\x1b[31m', connection="7")
    log_event("silent", level=logging.DEBUG)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["event"]) == ("warning", "bad request")
    assert (entry["text"], entry["connection"]) == ('"}\nfake line\x1b[31m', "7")
    assert "\x1b" not in line


def test_an_error_brings_its_traceback(stream: io.StringIO) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        log_event("internal error", level=logging.ERROR, error=error)
    assert "RuntimeError: broken" in json.loads(stream.getvalue())["traceback"]


def test_failed_handshakes_bring_none(stream: io.StringIO) -> None:
    library = logging.getLogger("websockets.server")
    try:
        raise EOFError("connection closed")
    except EOFError:
        library.error("opening handshake failed", exc_info=True)
    library.info("connection open")
    (line,) = stream.getvalue().splitlines()
    assert "traceback" not in json.loads(line)


class Clocked:
    """A log whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self._stream = io.StringIO()
        self.handler = RateLimitedHandler(self._stream, clock=lambda: self.now)
        self.handler.setFormatter(JsonFormatter())

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines since the last call."""
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        self._stream.seek(0), self._stream.truncate()
        return lines


@pytest.fixture
def clocked(unchanged_logging: None) -> Iterator[Clocked]:
    clocked = Clocked()
    logging.basicConfig(level="INFO", handlers=[clocked.handler], force=True)
    yield clocked
    logging.getLogger().removeHandler(clocked.handler)


def test_what_is_repeated_is_counted(clocked: Clocked) -> None:
    for n in range(1_000):
        log_event("bad request", level=logging.WARNING, reason="message", connection=n)
        log_event("bad request", level=logging.WARNING, reason="observation", connection=n)
        log_event("connection refused", reason="key", connection=n)
    lines = clocked.lines()
    kinds = [(line["event"], line["reason"]) for line in lines]
    assert kinds.count(("bad request", "message")) == MAXIMUM_COMPLAINTS
    assert kinds.count(("bad request", "observation")) == MAXIMUM_COMPLAINTS
    assert kinds.count(("connection refused", "key")) == MAXIMUM_LINES
    assert [line["connection"] for line in lines if line["reason"] == "message"] == list(
        range(MAXIMUM_COMPLAINTS)
    )
    clocked.now += INTERVAL_SECONDS - 1
    log_event("bad request", level=logging.WARNING, reason="message")
    assert clocked.lines() == []
    clocked.now += 1
    log_event("stopping")
    *counts, stopping = clocked.lines()
    assert stopping["event"] == "stopping"
    assert {line["event"] for line in counts} == {"lines left out"}
    assert [(line["repeated"], line["reason"], line["times"]) for line in counts] == [
        ("bad request", "message", 1_001 - MAXIMUM_COMPLAINTS),
        ("bad request", "observation", 1_000 - MAXIMUM_COMPLAINTS),
        ("connection refused", "key", 1_000 - MAXIMUM_LINES),
    ]
    log_event("bad request", level=logging.WARNING, reason="message")
    assert [line["event"] for line in clocked.lines()] == ["bad request"]


def test_one_line_and_then_a_count_of_what_must_not_fill_the_disk(clocked: Clocked) -> None:
    for _ in range(3):
        for _ in range(100):
            log_event("connections cannot be accepted", level=logging.ERROR, burst=1, reason="x")
        clocked.now += INTERVAL_SECONDS
    assert [(line["event"], line.get("times")) for line in clocked.lines()] == [
        ("connections cannot be accepted", None),
        ("lines left out", 99),
        ("connections cannot be accepted", None),
        ("lines left out", 99),
        ("connections cannot be accepted", None),
    ]
    clocked.handler.close()
    assert [line["times"] for line in clocked.lines()] == [99]


def test_lines_of_libraries_are_counted_too(clocked: Clocked) -> None:
    for number in range(100):
        logging.getLogger("websockets.server").error("opening handshake failed %d", number)
    assert len(clocked.lines()) == MAXIMUM_COMPLAINTS
