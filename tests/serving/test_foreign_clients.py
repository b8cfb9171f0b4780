"""Messages as other projects' clients write them, among them openpi's for DROID."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.wire.packing import packb, unpackb

from .wire import WAIT

DROID_SHAPES = {
    "observation/exterior_image_1_left": (224, 224, 3),
    "observation/wrist_image_left": (224, 224, 3),
    "observation/joint_position": (7,),
    "observation/gripper_position": (1,),
}


def droid_message() -> dict[str, Any]:
    """Return what openpi's DROID example sends, with the gripper as a plain number."""
    image = (np.arange(224 * 224 * 3) % 251).astype(np.uint8).reshape(224, 224, 3)
    return {
        "observation/exterior_image_1_left": image,
        "observation/wrist_image_left": image[::-1],
        "observation/joint_position": np.arange(7.0),
        "observation/gripper_position": np.array(0.25),
        "prompt": "pick up the fork",
        "session_id": "7f9c",
    }


class EchoPolicy(ChunkPolicy):
    """Keeps what it was asked; every action is zero."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], *, n_obs_steps: int = 1) -> None:
        super().__init__(DataSpec(shapes, 2), n_obs_steps=n_obs_steps, horizon=8, n_action_steps=6)
        self.seen: list[dict[str, np.ndarray]] = []

    @property
    def metadata(self) -> dict[str, Any]:
        return {**super().metadata, "nfe": 1}

    def predict_action_chunk(self, batch: Any, *, noise: Any = None, prefix: Any = None) -> Any:
        self.seen.append({key: value[0] for key, value in batch.items()})
        n_rows = len(next(iter(batch.values())))
        return np.zeros((n_rows, self.n_action_steps, 2), np.float32)

    def _actions_of_history(self, frames: Any) -> np.ndarray:
        raise NotImplementedError

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        return np.array(0.0), np.array(1.0)


def join(port: int) -> Any:
    return connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None)


def answer(socket: ClientConnection, message: bytes) -> Any:
    socket.send(message)
    return socket.recv(WAIT)


def error(port: int, message: bytes) -> str:
    """Return the text that a message is answered with; checks close code 1011 after it."""
    with join(port) as socket:
        socket.recv(WAIT)
        text = answer(socket, message)
        assert isinstance(text, str)
        with pytest.raises(ConnectionClosed):
            socket.recv(WAIT)
        assert socket.close_code == 1011
    return text


def test_a_droid_client_at_a_smaller_policy_is_told_what_is_expected(
    start: Callable[..., Any],
) -> None:
    shapes = {"agent_pos": (2,), "environment_state": (16,)}
    text = error(start(EchoPolicy(shapes)).port, packb(droid_message()))
    assert text == (
        "observations ['agent_pos', 'environment_state'] are missing: found "
        "observation/exterior_image_1_left uint8 (224, 224, 3), "
        "observation/gripper_position float64 (), observation/joint_position float64 (7,), "
        "observation/wrist_image_left uint8 (224, 224, 3), prompt str, session_id str; "
        "expected agent_pos float32 (2,), environment_state float32 (16,)"
    )


def test_a_droid_client_at_its_policy_is_served(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    policy = EchoPolicy(DROID_SHAPES)
    message = droid_message()
    caplog.set_level(logging.INFO)
    with join(start(policy).port) as socket:
        socket.recv(WAIT)
        for _ in range(3):
            found = unpackb(answer(socket, packb(message)))
            assert found["actions"].shape == (6, 2)
    for key in DROID_SHAPES:
        value = policy.seen[-1][key][0]
        np.testing.assert_array_equal(value, np.reshape(message[key], value.shape))
    # Once for each connection, and without the prompt that all clients of openpi's send.
    told = [record for record in caplog.records if record.getMessage() == "observations left out"]
    assert [record.fields["names"] for record in told] == [["session_id"]]


def test_strict_refuses_what_the_policy_does_not_know(start: Callable[..., Any]) -> None:
    port = start(EchoPolicy(DROID_SHAPES), strict=True).port
    assert "observations ['session_id'] are unknown" in error(port, packb(droid_message()))
    message = {key: value for key, value in droid_message().items() if key != "session_id"}
    with join(port) as socket:
        socket.recv(WAIT)
        assert isinstance(answer(socket, packb(message)), bytes)


def test_a_misspelt_instruction_is_not_left_out(start: Callable[..., Any]) -> None:
    message = {"x": np.zeros(2), "__resett__": True}
    assert "['__resett__'] are unknown" in error(
        start(EchoPolicy({"x": (2,)})).port, packb(message)
    )


def test_an_image_of_another_size_is_named_with_both_sizes(start: Callable[..., Any]) -> None:
    shapes = {**DROID_SHAPES, "observation/wrist_image_left": (96, 128, 3)}
    text = error(start(EchoPolicy(shapes)).port, packb(droid_message()))
    assert "'observation/wrist_image_left'" in text
    assert "an image 224 high and 224 wide, expected 96 high and 128 wide" in text


@pytest.mark.parametrize("history", [False, True])
def test_layouts_of_other_clients_reach_the_policy_as_its_own(
    start: Callable[..., Any], history: bool
) -> None:
    policy = EchoPolicy({"camera": (4, 5, 3), "gripper": (1,), "time": ()}, n_obs_steps=2)
    leading = (2,) if history else ()
    camera = (np.arange(np.prod((*leading, 60))) * 3).astype(np.uint8).reshape(*leading, 4, 5, 3)
    floats = (camera.astype(np.float64) + 0.5) / 255.5
    number = np.full(leading, 0.5)
    messages: list[dict[str, Any]] = [
        {"camera": camera, "gripper": number[..., None], "time": number},
        {"camera": np.moveaxis(camera, -1, -3), "gripper": number, "time": number[..., None]},
        {"camera": floats, "gripper": number.tolist(), "time": number.tolist()},
        {"camera": np.moveaxis(floats, -1, -3).astype("f4"), "gripper": number, "time": number},
    ]
    with join(start(policy).port) as socket:
        socket.recv(WAIT)
        for message in messages:
            assert isinstance(answer(socket, packb({"__reset__": True, **message})), bytes)
            seen = policy.seen[-1]
            assert seen["camera"].dtype == np.uint8
            newest = camera if not history else camera[-1]
            np.testing.assert_array_equal(seen["camera"][-1], newest)
            np.testing.assert_array_equal(seen["gripper"], [[0.5], [0.5]])
            np.testing.assert_array_equal(seen["time"], [0.5, 0.5])


def test_floats_that_are_no_image_in_0_to_1(start: Callable[..., Any]) -> None:
    port = start(EchoPolicy({"camera": (4, 5, 3)})).port
    text = error(port, packb({"camera": np.full((4, 5, 3), 200.0, np.float32)}))
    assert "an image of float32 from 200 to 200, expected uint8 of 0 to 255, or floats in" in text


def _msgpack_numpy(value: Any) -> Any:
    """Do what `msgpack_numpy.encode` does."""
    if isinstance(value, np.ndarray):
        return {
            b"nd": True,
            b"type": value.dtype.str,
            b"kind": b"",
            b"shape": value.shape,
            b"data": value.tobytes(),
        }
    return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}


def test_msgpack_numpys_dialect_is_read(start: Callable[..., Any]) -> None:
    policy = EchoPolicy(DROID_SHAPES)
    message = {**droid_message(), "observation/gripper_position": np.float32(0.5)}
    with join(start(policy).port) as socket:
        socket.recv(WAIT)
        found = answer(socket, msgpack.packb(message, default=_msgpack_numpy))
        assert isinstance(found, bytes)
    np.testing.assert_array_equal(
        policy.seen[0]["observation/wrist_image_left"][0], message["observation/wrist_image_left"]
    )
    np.testing.assert_array_equal(policy.seen[0]["observation/gripper_position"], [[0.5]])


def test_a_message_up_to_16_mib_is_answered_whatever_the_policy_needs(
    start: Callable[..., Any],
) -> None:
    port = start(EchoPolicy({"x": (2,)})).port
    large = {"camera": np.zeros((2_300, 2_300, 3), np.uint8)}
    assert "['x'] are missing: found camera uint8 (2300, 2300, 3)" in error(port, packb(large))
    with join(port) as socket:
        socket.recv(WAIT)
        too_large = packb({"camera": np.zeros(16 * 2**20, np.uint8)})
        text = answer(socket, too_large)
        assert f"{len(too_large)} bytes" in text and "16777216 bytes" in text
        with pytest.raises(ConnectionClosed):
            socket.recv(WAIT)
        assert socket.close_code == 1009
