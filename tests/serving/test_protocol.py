"""What goes over the wire, as openpi's clients see it."""

from __future__ import annotations

import contextlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lfm_policy.serving import ApiKeys
from lfm_runtime.policy.chunk_policy import chunk_noise
from lfm_runtime.wire.packing import packb, unpackb

WAIT = 20.0


def http(port: int, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def join(port: int, **options: Any) -> Any:
    """Connect as openpi's client does."""
    return connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options)


def ask(socket: ClientConnection, message: Any) -> Any:
    socket.send(packb(message))
    answer = socket.recv(WAIT)
    assert isinstance(answer, bytes), answer
    return unpackb(answer)


def refused(socket: ClientConnection, message: bytes | str) -> str:
    """Return the error of a message; checks that it is a text and then close code 1011."""
    socket.send(message)
    text = socket.recv(WAIT)
    assert isinstance(text, str)
    with pytest.raises(ConnectionClosed):
        socket.recv(WAIT)
    assert socket.close_code == 1011
    return text


def test_first_message_is_metadata(start: Callable[..., Any], toy: Any) -> None:
    with join(start(toy).port) as socket:
        metadata = unpackb(socket.recv(WAIT))
    assert metadata["server"] == "lfm-policy"
    assert metadata["observations"]["camera"] == {"shape": [2, 3, 3], "dtype": "uint8"}
    state = metadata["observations"]["state"]
    assert (state["shape"], state["dtype"]) == ([3], "float32")
    assert (state["low"].tolist(), state["high"].tolist()) == ([-1] * 3, [1] * 3)
    assert (metadata["n_obs_steps"], metadata["horizon"]) == (2, 6)
    # What an answer holds is executed whole, so openpi's action_horizon is n_action_steps.
    assert metadata["action_horizon"] == metadata["n_action_steps"] == 4
    assert metadata["action_dim"] == 3


def test_answers_with_actions_and_timing_only(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    with join(start(toy).port) as socket:
        socket.recv(WAIT)
        socket.send(packb(obs(5)))
        # The bytes, read without our own unpacking.
        answer = msgpack.unpackb(socket.recv(WAIT))
    assert list(answer) == ["actions", "server_timing"]
    assert list(answer["server_timing"]) == ["infer_ms"]
    assert isinstance(answer["server_timing"]["infer_ms"], float)
    actions = answer["actions"]
    assert list(actions) == [b"__ndarray__", b"data", b"dtype", b"shape"]
    assert (actions[b"dtype"], actions[b"shape"], len(actions[b"data"])) == ("<f4", [4, 3], 48)


def test_prompt_of_openpi_clients_is_ignored(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    with join(start(toy).port) as socket:
        socket.recv(WAIT)
        assert ask(socket, {**obs(), "prompt": "push the T"})["actions"].shape == (4, 3)


def test_remembers_the_history_of_each_connection(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    port = start(toy).port
    noise = chunk_noise(0, 0, 0, (6, 3))[1:5]

    def state_sums(socket: ClientConnection, message: dict[str, Any]) -> list[float]:
        actions = ask(socket, {**message, "__noise__": [0, 0, 0]})["actions"]
        newest, oldest, _ = (actions - noise)[0].round(3)
        return [float(oldest), float(newest)]

    with join(port) as one, join(port) as other:
        one.recv(WAIT), other.recv(WAIT)
        assert state_sums(one, obs(1)) == [1, 1]  # the first fills the history
        assert state_sums(other, obs(10)) == [10, 10]
        assert state_sums(one, obs(2)) == [1, 2]
        assert state_sums(other, obs(20)) == [10, 20]
        assert ask(one, {"__reset__": True}) == {"__reset__": True}
        assert state_sums(one, obs(3)) == [3, 3]
        assert state_sums(other, obs(30)) == [20, 30]
        assert state_sums(one, {**obs(4), "__reset__": True}) == [4, 4]
        history = {key: np.stack([obs(5)[key], obs(6)[key]]) for key in obs()}
        assert state_sums(one, history) == [5, 6]
        assert state_sums(one, obs(7)) == [6, 7]


def test_noise_differs_unless_it_is_named(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    with join(start(toy).port) as socket:
        socket.recv(WAIT)
        fresh = [ask(socket, obs())["actions"] for _ in range(2)]
        named = [ask(socket, {**obs(), "__noise__": [1, 2, 3]})["actions"] for _ in range(2)]
        other = ask(socket, {**obs(), "__noise__": [1, 2, 4]})["actions"]
    assert not np.array_equal(*fresh)
    np.testing.assert_array_equal(*named)
    np.testing.assert_allclose(
        named[0] - other,
        (chunk_noise(1, 2, 3, (6, 3)) - chunk_noise(1, 2, 4, (6, 3)))[1:5],
        atol=1e-5,
    )


def test_a_seed_makes_all_noise_reproducible(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    actions = []
    for _ in range(2):
        with join(start(toy, seed=3).port) as socket:
            socket.recv(WAIT)
            actions.append(ask(socket, obs())["actions"])
    np.testing.assert_array_equal(*actions)


def with_change(obs: dict[str, Any], **changes: Any) -> bytes:
    return packb({key: value for key, value in {**obs, **changes}.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"state": None}, r"\['state'\] are missing: found camera uint8 \(2, 3, 3\); "),
        ({"__reste__": True}, r"\['__reste__'\] are unknown"),
        ({"state": np.zeros(4)}, r"'state' has shape \(4,\), expected \(3,\), or \(2, 3\)"),
        ({"state": np.zeros((1, 3))}, r"'state' has shape \(1, 3\)"),
        ({"state": np.zeros((2, 3))}, "with a history"),
        ({"state": np.array([1, 2, np.nan])}, "'state' contains NaN"),
        ({"state": np.array([1, 2, np.inf])}, "'state' contains NaN"),
        ({"state": np.array([1, 2, 1e300])}, "'state' contains NaN or infinity"),
        ({"state": np.array(["1", "2", "3"])}, "'state' has dtype <U1"),
        ({"state": "text"}, "'state' has dtype"),
        ({"state": {"x": 1}}, "'state' has dtype object"),
        ({"state": [[1, 2], [3]]}, "'state'"),
        ({"camera": np.full((2, 3, 3), 1.5)}, "'camera' is an image of float64 from 1.5 to 1.5"),
        ({"camera": np.zeros((2, 3, 3), int)}, "'camera' has dtype int64, expected uint8"),
        ({"camera": np.zeros((3, 3, 2), np.uint8)}, r"'camera' has shape \(3, 3, 2\)"),
        ({"__reset__": "yes"}, "__reset__: expected true"),
        ({"__noise__": [1, 2]}, "__noise__: expected"),
        ({"__noise__": [1, 2, -3]}, "__noise__: expected"),
        ({"__prefix__": [[1, 2, 3]]}, "__prefix__: expected an array"),
        ({"__prefix__": np.zeros((1, 2))}, r"prefix has shape \(1, 1, 2\)"),
        ({"__prefix__": np.zeros((3, 3))}, "prefix has 3 actions"),
        ({"__prefix__": np.full((1, 3), np.nan)}, "prefix contains NaN"),
    ],
)
def test_says_what_is_wrong_and_closes_with_1011(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any], changes: dict[str, Any], what: str
) -> None:
    running = start(toy)
    with join(running.port) as bystander, join(running.port) as socket:
        bystander.recv(WAIT), socket.recv(WAIT)
        text = refused(socket, with_change(obs(), **changes))
        assert re.search(what, text), text
        assert ask(bystander, obs())["actions"].shape == (4, 3)
    assert toy.rows == [1]


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("text", "a text frame"),
        (b"", "not a msgpack message"),
        (b"\xc1", "not a msgpack message"),
        (packb([1, 2]), "found list, expected a map"),
        (packb({b"state": 1}), "a name is bytes"),
        (
            msgpack.packb(
                {"state": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": []}}
            ),
            "dtype",
        ),
    ],
)
def test_refuses_what_is_no_message(
    start: Callable[..., Any], toy: Any, message: bytes | str, what: str
) -> None:
    with join(start(toy).port) as socket:
        socket.recv(WAIT)
        assert what in refused(socket, message)


@pytest.mark.parametrize("pieces", [[bytes(1001)], [bytes(600), bytes(600)]])
def test_too_large_a_message_is_not_read_and_the_client_told_why(
    start: Callable[..., Any], toy: Any, pieces: list[bytes]
) -> None:
    running = start(toy, max_message_bytes=1000)
    with join(running.port) as socket:
        assert unpackb(socket.recv(WAIT))["max_message_bytes"] == 1000
        with contextlib.suppress(ConnectionClosed):  # the server may close while this sends
            socket.send(pieces[0] if len(pieces) == 1 else pieces)
        text = socket.recv(WAIT)
        assert isinstance(text, str)
        assert str(len(pieces[-1])) in text and "1000 bytes" in text
        with pytest.raises(ConnectionClosed):
            socket.recv(WAIT)
        assert socket.close_code == 1009
    running.stop()
    assert running.metric("errors_total", reason="message") == 1


def test_accepts_lists_and_float64(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    with join(start(toy).port) as socket:
        socket.recv(WAIT)
        for state in ([1, 2.5, 3], np.zeros(3), np.zeros(3, np.int16), [np.float32(1)] * 3):
            assert ask(socket, {**obs(), "state": state})["actions"].shape == (4, 3)


def test_health_and_metrics(start: Callable[..., Any], toy: Any, obs: Callable[..., Any]) -> None:
    running = start(toy)
    assert http(running.port, "/healthz") == (200, "OK\n")
    with join(running.port) as socket:
        socket.recv(WAIT)
        ask(socket, obs())
        refused(socket, b"")
    status, text = http(running.port, "/metrics")
    assert status == 200
    assert "lfm_policy_requests_total 1.0" in text
    assert 'lfm_policy_errors_total{reason="message"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert http(running.port, "/else")[0] == 426


def test_health_fails_while_a_policy_call_hangs(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, stall_timeout=0.05)
    with join(running.port) as socket:
        socket.recv(WAIT)
        toy.hold.clear()
        socket.send(packb(obs()))
        assert toy.running.wait(WAIT)
        while http(running.port, "/healthz")[0] == 200:
            pass
        toy.hold.set()
        socket.recv(WAIT)
        while http(running.port, "/healthz")[0] != 200:
            pass


def test_keys(start: Callable[..., Any], toy: Any, obs: Callable[..., Any]) -> None:
    running = start(toy, keys=ApiKeys(["first-key", "second-key"]))
    for headers in (
        {},
        {"Authorization": "Api-Key wrong"},
        {"Authorization": "first-key"},
        {"Authorization": "Bearer first-key"},
        {"Authorization": "Api-Key first-ke"},
        {"Authorization": "Api-Key "},
        {"Authorization": "Api-Key f\u00efrst-key"},
    ):
        with pytest.raises(InvalidStatus) as caught, join(running.port, additional_headers=headers):
            pass
        assert caught.value.response.status_code == 401
        assert caught.value.response.headers["WWW-Authenticate"] == "Api-Key"
    for key in ("first-key", "second-key"):
        headers = {"Authorization": f"Api-Key {key}"}
        with join(running.port, additional_headers=headers) as socket:
            socket.recv(WAIT)
            assert ask(socket, obs())["actions"].shape == (4, 3)
    assert http(running.port, "/healthz")[0] == 200
    assert http(running.port, "/metrics")[0] == 401
    assert http(running.port, "/metrics", Authorization="Api-Key first-key")[0] == 200
    assert running.metric("connections_refused_total", reason="key") == 8


def test_web_pages_cannot_use_a_server_without_keys(start: Callable[..., Any], toy: Any) -> None:
    running = start(toy)
    with pytest.raises(InvalidStatus) as caught, join(running.port, origin="https://page.example"):
        pass
    assert caught.value.response.status_code == 403
