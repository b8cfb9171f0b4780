"""One JSON object per line, whatever clients send."""

from __future__ import annotations

import io
import json
import logging

import pytest

pytest.importorskip("prometheus_client")

from lfm_policy.serving.logs import configure_logging, log_event


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
