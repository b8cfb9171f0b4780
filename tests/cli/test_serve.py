"""``lfm-policy serve`` as a process, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from lfm_runtime import WebsocketClientPolicy

WAIT = 60.0


@pytest.fixture
def launch() -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[dict[str, Any]]]]]:
    """Return a function that starts a server and returns it with its log up to 'listening'."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], list[dict[str, Any]]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lfm_policy", "serve", *arguments, "--device", "cpu"],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        assert process.stderr is not None
        log: list[dict[str, Any]] = []
        for line in process.stderr:
            log.append(json.loads(line))
            if log[-1]["event"] == "listening":
                return process, log
        raise AssertionError(f"it ended with {process.wait()}: {log}")

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_killed_started_again_and_told_to_stop(launch: Callable[..., Any], small_run: Path) -> None:
    first, log = launch(str(small_run), "--port", "0", "--seed", "1")
    port = log[-1]["port"]
    with WebsocketClientPolicy(port=port, timeout=0.5) as client:
        obs = client.fake_obs()
        assert client.infer(obs)["actions"].shape == (3, 2)
        first.kill()
        first.wait()
        with pytest.raises(ConnectionError):
            client.infer(obs)
        second, _ = launch(str(small_run), "--port", str(port))
        assert client.infer(obs)["actions"].shape == (3, 2)
        assert client.connections_opened == 2
        second.send_signal(signal.SIGTERM)
        assert second.wait(WAIT) == 0
    rest = [json.loads(line) for line in second.stderr]
    events = [entry["event"] for entry in rest]
    assert events[0] == "connection opened"
    assert events[-1] == "stopped"
    closed = rest[events.index("connection closed")]
    assert (closed["reason"], closed["answered"]) == ("server", 1)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--host", "0.0.0.0"], "--allow-insecure-bind"),
        (["--host", "no such host"], "no such address"),
        (["--api-key-file", "absent"], "absent"),
        (["--tls-cert", "absent"], "together"),
        (["--port", "70000"], "port is 70000"),
        (["--idle-timeout", "nan"], "idle_timeout"),
    ],
)
def test_refuses_what_is_wrong_before_the_policy_is_loaded(
    command: Callable[..., Any], arguments: list[str], what: str
) -> None:
    result = command("serve", "no/such/policy", *arguments)
    assert result.code == 2
    assert what in result.err


def test_refuses_a_policy_that_is_not_there(command: Callable[..., Any]) -> None:
    result = command("serve", "no/such/policy")
    assert result.code == 2
    assert "no/such/policy" in result.err
