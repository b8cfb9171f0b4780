"""The client against servers that are not ours, or behave badly."""

from __future__ import annotations

import contextlib
import http
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from lfm_runtime import PolicyServerError, WebsocketClientPolicy
from lfm_runtime.errors import InputError
from lfm_runtime.wire.connection import PolicyConnection
from lfm_runtime.wire.packing import packb, unpackb

WAIT = 20.0
METADATA: dict[str, Any] = {
    "observations": {"state": {"shape": [2], "dtype": "float32"}},
    "action_dim": 1,
    "n_obs_steps": 1,
    "horizon": 4,
    "n_action_steps": 3,
}
OBS = {"state": np.zeros(2, np.float32)}
ANSWER = packb({"actions": np.ones((3, 1), np.float32), "server_timing": {"infer_ms": 1.0}})


@contextlib.contextmanager
def running(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[int]:
    """Run a server in a thread and yield its port."""
    with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(WAIT)


def answering(answer: bytes | str, metadata: Any = None) -> Callable[[ServerConnection], None]:
    """Return a handler that gives one answer to everything."""

    def handle(websocket: ServerConnection) -> None:
        websocket.send(packb(METADATA if metadata is None else metadata))
        for _ in websocket:
            websocket.send(answer)

    return handle


def test_the_client_needs_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime', 'lfm_policy'):\n"
        "    sys.modules[name] = None\n"
        "from lfm_runtime import WebsocketClientPolicy\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_speaks_to_any_server_of_the_protocol() -> None:
    received = []

    def handle(websocket: ServerConnection) -> None:
        websocket.send(packb({}))  # openpi's servers tell what they like
        for message in websocket:
            assert isinstance(message, bytes)
            received.append(unpackb(message))
            websocket.send(ANSWER)

    with running(handle) as port:
        connection = PolicyConnection(port=port)
        answer = connection.ask(packb(OBS), WAIT)
        connection.close()
    np.testing.assert_array_equal(answer["actions"], np.ones((3, 1)))
    np.testing.assert_array_equal(received[0]["state"], OBS["state"])


def test_sends_the_key_and_nothing_of_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    def handle(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        seen.append(websocket.request.headers.get("Authorization"))
        answering(ANSWER)(websocket)

    with running(handle) as port, WebsocketClientPolicy(port=port, api_key="key") as client:
        assert client.select_action(OBS).shape == (1,)
    assert seen == ["Api-Key key"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"observations": None}, "no 'observations'"),
        ({"observations": [1]}, "no 'observations'"),
        ({"observations": {"state": {"shape": [10**9]}}}, "obs_shapes.state"),
        ({"observations": {"state": {}}}, "obs_shapes.state"),
        ({"action_dim": 0}, "action_dim"),
        ({"horizon": "4"}, "horizon: found 4"),
        ({"n_action_steps": None}, "n_action_steps"),
        ({"n_obs_steps": 10**6}, "n_obs_steps"),
    ],
)
def test_refuses_metadata_that_do_not_describe_a_policy(change: dict[str, Any], what: str) -> None:
    with (
        running(answering(ANSWER, METADATA | change)) as port,
        pytest.raises(InputError, match=what),
    ):
        WebsocketClientPolicy(port=port)


@pytest.mark.parametrize("metadata", [b"\xc1", packb([1]), b""])
def test_refuses_a_first_message_that_is_none(metadata: bytes) -> None:
    with (
        running(lambda websocket: websocket.send(metadata)) as port,
        pytest.raises(InputError, match="answer"),
    ):
        WebsocketClientPolicy(port=port)


@pytest.mark.parametrize(
    ("answer", "error", "what"),
    [
        ("some traceback", PolicyServerError, "some traceback"),
        (b"\xc1", InputError, "answer: not a msgpack message"),
        (packb([1]), InputError, "expected a map"),
        (packb({}), InputError, r"actions are NoneType, expected \(3, 1\)"),
        (packb({"actions": np.zeros((2, 1))}), InputError, r"actions are \(2, 1\)"),
        (packb({"actions": np.zeros((3, 1), int)}), InputError, "actions are"),
        (packb({"actions": np.full((3, 1), np.nan)}), FloatingPointError, "not finite"),
    ],
)
def test_bad_answers_never_reach_the_robot(
    answer: bytes | str, error: type[Exception], what: str
) -> None:
    with (
        running(answering(answer)) as port,
        WebsocketClientPolicy(port=port) as client,
        pytest.raises(error, match=what),
    ):
        client.select_action(OBS)


def test_a_server_that_is_silent_runs_out_of_time() -> None:
    def handle(websocket: ServerConnection) -> None:
        websocket.send(packb(METADATA))
        for _ in websocket:
            pass

    with running(handle) as port, WebsocketClientPolicy(port=port, timeout=0.1) as client:
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"0\.1 seconds"):
                client.infer(OBS)


def test_a_server_that_never_says_hello_runs_out_of_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionError):
        WebsocketClientPolicy(port=silent.getsockname()[1], wait=0.2)

    def handle(websocket: ServerConnection) -> None:
        for _ in websocket:
            pass

    with running(handle) as port, pytest.raises(ConnectionError):
        WebsocketClientPolicy(port=port, wait=0.2)


def test_a_server_that_does_not_read_runs_out_of_time() -> None:
    done = threading.Event()

    def handle(websocket: ServerConnection) -> None:
        websocket.send(packb(METADATA))
        websocket.recv_flow_control.acquire()  # its thread stops reading
        done.wait(WAIT)
        websocket.recv_flow_control.release()

    with running(handle, max_size=None) as port:
        connection = PolicyConnection(port=port)
        connection.open(WAIT)
        with pytest.raises((TimeoutError, ConnectionError)):
            connection.ask(bytes(50_000_000), 0.3)
        done.set()


def test_a_server_that_breaks_every_connection_is_not_asked_forever() -> None:
    opened = []

    def handle(websocket: ServerConnection) -> None:
        opened.append(1)
        websocket.send(packb(METADATA))
        websocket.recv()
        websocket.close_socket()

    with (
        running(handle) as port,
        WebsocketClientPolicy(port=port) as client,
        pytest.raises(ConnectionError, match="connection lost"),
    ):
        client.infer(OBS)
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("status", "error", "what"),
    [
        (http.HTTPStatus.UNAUTHORIZED, InputError, "API key"),
        (http.HTTPStatus.FORBIDDEN, InputError, "refuses"),
        (http.HTTPStatus.NOT_FOUND, ConnectionError, "HTTP 404"),
        (http.HTTPStatus.SERVICE_UNAVAILABLE, ConnectionError, "HTTP 503"),
    ],
)
def test_what_a_server_answers_instead_of_a_connection(
    status: http.HTTPStatus, error: type[Exception], what: str
) -> None:
    with (
        running(
            answering(ANSWER),
            process_request=lambda connection, request: connection.respond(status, "no\n"),
        ) as port,
        pytest.raises(error, match=what),
    ):
        WebsocketClientPolicy(port=port, wait=0.2)


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}"):
        WebsocketClientPolicy(port=port, wait=0.1)


def test_waits_for_a_server_that_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = threading.Event()

    def start_later() -> None:
        time.sleep(0.3)
        with serve(answering(ANSWER), "127.0.0.1", port, compression=None) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            started.wait(WAIT)
            server.shutdown()

    thread = threading.Thread(target=start_later)
    thread.start()
    try:
        with WebsocketClientPolicy(port=port, wait=WAIT) as client:
            assert client.select_action(OBS).shape == (1,)
    finally:
        started.set()
        thread.join(WAIT)


def test_fewer_actions_of_an_answer_are_executed() -> None:
    with running(answering(ANSWER)) as port, WebsocketClientPolicy(port=port, wait=WAIT) as client:
        batch = {"state": np.zeros((1, 1, 2), np.float32)}
        assert client.predict_action_chunk(batch).shape == (1, 3, 1)
        client.n_action_steps = 2
        assert client.predict_action_chunk(batch).shape == (1, 2, 1)
        with pytest.raises(InputError, match="n_action_steps is 4, expected 1 to 3"):
            client.n_action_steps = 4
        assert client.n_action_steps == 2


@pytest.mark.parametrize(
    ("host", "port", "uri"),
    [
        ("robot.local", None, "ws://robot.local:8000/"),
        ("::1", 9, "ws://[::1]:9/"),
        ("ws://robot", None, "ws://robot:80/"),
        ("wss://robot", None, "wss://robot:443/"),
        ("wss://robot:1/path", None, "wss://robot:1/path"),
        ("wss://robot/path", 5, "wss://robot:5/path"),
        ("wss://[::1]:7", None, "wss://[::1]:7/"),
        ("[::1]", None, "ws://[::1]:8000/"),
        ("wss://robot/policy?token=a&b=c", None, "wss://robot:443/policy?token=a&b=c"),
    ],
)
def test_addresses(host: str, port: int | None, uri: str) -> None:
    assert PolicyConnection(host, port).uri == uri


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("ws://", None),
        ("ws://a:b", None),
        ("ws://a:1", 2),
        ("ws://[::1", None),
        ("ws://me:secret@robot", None),
    ],
)
def test_refuses_addresses(host: str, port: int | None) -> None:
    with pytest.raises(InputError, match="address") as caught:
        PolicyConnection(host, port)
    assert "secret" not in str(caught.value)


def openpi_server(websocket: ServerConnection) -> None:
    """Answer as openpi's own server does: its timings, float64 actions, a traceback as error."""
    websocket.send(packb({"reset_pose": [0.0, 1.0], "action_horizon": 3}))
    for number, message in enumerate(websocket):
        assert isinstance(message, bytes)
        obs = unpackb(message)
        if "state" not in obs:
            websocket.send("Traceback (most recent call last):\n" + "x\n" * 2_000 + "KeyError")
            websocket.close(1011, "Internal server error. Traceback included in previous frame.")
            return
        timing = {"infer_ms": 1.5, **({"prev_total_ms": 2.5} if number else {})}
        websocket.send(
            packb(
                {
                    "actions": np.full((3, 1), obs["state"].sum()),
                    "state": obs["state"],
                    "policy_timing": {"infer_ms": np.float64(1.25)},
                    "server_timing": timing,
                }
            )
        )


def test_reads_what_openpis_servers_answer() -> None:
    with running(openpi_server) as port:
        connection = PolicyConnection(port=port)
        for number in range(2):
            answer = connection.ask(packb({"state": np.ones(2), "prompt": "push"}), WAIT)
            np.testing.assert_array_equal(answer["actions"], np.full((3, 1), 2.0))
            assert answer["actions"].dtype == np.float64
            assert answer["policy_timing"] == {"infer_ms": 1.25}
            assert ("prev_total_ms" in answer["server_timing"]) == (number == 1)
        with pytest.raises(PolicyServerError, match=r"(?s)Traceback.*KeyError$"):
            connection.ask(packb({"prompt": "push"}), WAIT)
        connection.close()
        # It does not say what its policy needs, so there is nothing to check observations with.
        with pytest.raises(InputError, match="started with 'lfm-policy serve'"):
            WebsocketClientPolicy(port=port)


def test_answers_in_openpis_manner_drive_the_whole_client() -> None:
    answer = packb(
        {
            "actions": np.arange(3.0).reshape(3, 1),
            "policy_timing": {"infer_ms": 1.25},
            "server_timing": {"infer_ms": 1.5, "prev_total_ms": 2.5},
        }
    )
    with running(answering(answer)) as port, WebsocketClientPolicy(port=port) as client:
        assert [float(client.select_action(OBS)[0]) for _ in range(4)] == [0, 1, 2, 0]
        assert client.select_action(OBS).dtype == np.float32
        assert client.server_timing == {"infer_ms": 1.5, "prev_total_ms": 2.5}


CLAIMS = {
    "a scalar as long as it says": msgpack.packb(
        {"actions": {b"__npgeneric__": True, b"data": 2 * 10**9, b"dtype": "S1"}}
    ),
    "an array of many": msgpack.packb(
        {"actions": {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [2**40]}}
    ),
    "an array of none": msgpack.packb(
        {"actions": {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [0, 2**40]}}
    ),
    "lists": b"\x81\xa7actions" + b"\xdc\x10\x00" * 1_000,
    "maps": b"\x81\xa7actions\xdc\x10\x00" + (b"\xdc\x10\x00" + b"\x80" * 4096) * 4096,
}


@pytest.mark.parametrize("name", sorted(CLAIMS))
@pytest.mark.parametrize("as_metadata", [False, True])
def test_a_server_cannot_ask_for_memory_that_it_does_not_send(name: str, as_metadata: bool) -> None:
    claim = CLAIMS[name]

    def handle(websocket: ServerConnection) -> None:
        websocket.send(claim if as_metadata else packb(METADATA))
        for _ in websocket:
            websocket.send(claim)

    with running(handle) as port:
        tracemalloc.start()
        with pytest.raises(InputError), WebsocketClientPolicy(port=port) as client:
            client.select_action(OBS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The message is held by this server and by the client, while it is put together.
    assert peak < 10 * len(claim) + 10_000_000


def test_a_huge_error_text_is_cut_short() -> None:
    with (
        running(answering("no " * 5_000_000)) as port,
        WebsocketClientPolicy(port=port, timeout=WAIT) as client,
        pytest.raises(PolicyServerError, match=r"no no .*\(15,000,000 characters\)$") as caught,
    ):
        client.select_action(OBS)
    assert len(str(caught.value)) < 11_000


def test_messages_that_nobody_asked_for_are_not_read_ahead() -> None:
    sent = []
    go_on = threading.Event()

    def handle(websocket: ServerConnection) -> None:
        websocket.send(packb(METADATA))
        with contextlib.suppress(ConnectionClosed):
            for _ in range(40):
                websocket.send(bytes(8_000_000))
                sent.append(1)
        go_on.set()

    with running(handle) as port, WebsocketClientPolicy(port=port):
        assert not go_on.wait(0.5)
        assert len(sent) < 10
    assert go_on.wait(WAIT)
