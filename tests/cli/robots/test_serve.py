"""``lfm-policy serve`` as a process, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

from lfm_policy.cli.main import main
from lfm_policy.control import ROBOTS
from lfm_policy.policy import load_policy
from lfm_runtime import PolicyServerError, WebsocketClientPolicy

pytestmark = pytest.mark.slow

WAIT = 60.0


def read_until(process: subprocess.Popen[str], event: str) -> list[dict[str, Any]]:
    """Return the lines of a log up to the first of an event."""
    assert process.stderr is not None
    lines: list[dict[str, Any]] = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == event:
            return lines
    raise AssertionError(f"it ended with {process.wait()}: {lines}")


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
        return process, read_until(process, "listening")

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


def test_without_files_to_open_the_log_says_so_and_stays_short(
    launch: Callable[..., Any], small_run: Path
) -> None:
    resource = pytest.importorskip("resource")
    server, log = launch(str(small_run), "--port", "0")
    port = log[-1]["port"]
    opened = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (opened + 5, opened + 5))
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), WAIT))
        cannot = read_until(server, "connections cannot be accepted")
        time.sleep(2)  # asyncio tries again every second
    # With the others gone there is room again.
    with WebsocketClientPolicy(port=port, timeout=WAIT, wait=WAIT) as client:
        assert client.infer(client.fake_obs())["actions"].shape == (3, 2)
    server.send_signal(signal.SIGTERM)
    assert server.wait(WAIT) == 0
    rest = [*cannot, *(json.loads(line) for line in server.stderr)]
    complaints = [line for line in rest if line["event"] == "connections cannot be accepted"]
    assert 1 <= len(complaints) <= 5
    assert "Too many open files" in complaints[0]["reason"]
    assert "ulimit -n" in complaints[0]["cure"]
    assert not any("traceback" in line for line in rest)
    assert len(rest) < 200
    counts = [line for line in rest if line["event"] == "lines left out"]
    assert sum(line["times"] for line in counts if "accepted" in line["repeated"]) > 50


def test_warns_of_keys_that_others_can_read(
    launch: Callable[..., Any], small_run: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("robot-key\n")
    keys.chmod(0o644)
    _, log = launch(str(small_run), "--port", "0", "--api-key-file", str(keys))
    (warning,) = [line for line in log if line["level"] == "warning"]
    assert f"chmod 600 {keys}" in warning["event"] and "robot-key" not in str(log)


def test_control_shows_a_key(
    launch: Callable[..., Any],
    small_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Still:
        simulated, done = True, False

        def observe(self) -> dict[str, Any]:
            return {key: np.zeros(shape, np.float32) for key, shape in client_shapes.items()}

        def act(self, action: np.ndarray) -> None:
            assert np.isfinite(action).all()

        def stop(self) -> None:
            """Stand still."""

    client_shapes = load_policy(small_run, device="cpu").spec.obs_shapes
    monkeypatch.setattr(ROBOTS, "_entries", {"still": Still})
    keys = tmp_path / "keys"
    keys.write_text("# of the robot\nrobot-key\n")
    keys.chmod(0o600)
    _, log = launch(str(small_run), "--port", "0", "--api-key-file", str(keys))
    line = f"control ws://127.0.0.1:{log[-1]['port']} --robot still --max-ticks 3 --quiet"
    assert main(line.split()) == 2
    assert "--api-key-file" in capsys.readouterr().err
    assert main([*line.split(), "--api-key-file", str(keys), "--wait", "0"]) == 0


def test_strict_is_an_option(launch: Callable[..., Any], small_run: Path) -> None:
    for options, refuses in ((["--strict"], True), ([], False)):
        _, log = launch(str(small_run), "--port", "0", *options)
        with WebsocketClientPolicy(port=log[-1]["port"], timeout=WAIT) as client:
            obs = {**client.fake_obs(), "session_id": "7f9c"}
            if refuses:
                with pytest.raises(PolicyServerError, match=r"\['session_id'\] are unknown"):
                    client.infer(obs)
            else:
                assert client.infer(obs)["actions"].shape == (3, 2)


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


def test_says_what_to_do_where_the_port_is_taken(
    command: Callable[..., Any], small_run: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("serve", str(small_run), "--port", str(port))
    assert result.code == 2
    assert f"127.0.0.1:{port}: address already in use: stop the program" in result.err
    assert "another --port" in result.err


def test_refuses_a_policy_that_is_not_there(command: Callable[..., Any]) -> None:
    result = command("serve", "no/such/policy")
    assert result.code == 2
    assert "no/such/policy" in result.err
