"""Another policy behind the same address: never taken for the one that was there before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from lfm_runtime import PolicyChangedError, WebsocketClientPolicy
from lfm_runtime.control import ControlLoop, ControlOptions
from lfm_runtime.errors import InputError

from .moving_robot import MovingRobot

WAIT = 20.0


def made_of(make_toy: Any, digest: str, *, horizon: int = 6, **facts: Any) -> Any:
    """Return a policy with a digest, and metadata of its sampler."""

    class Other(make_toy):
        @property
        def digest(self) -> str:
            return digest

        @property
        def metadata(self) -> dict[str, Any]:
            return {**super().metadata, "solver": "euler", "noise_scale": 1.0, **facts}

    return Other(horizon=horizon)


@pytest.fixture
def restart(start: Callable[..., Any], make_toy: Any) -> Callable[..., Any]:
    """Return a function that serves a policy, in the place of the one before if there is one."""
    before: list[Any] = []

    def serve(digest: str, **options: Any) -> Any:
        port = 0
        if before:
            port = before[-1].port
            before[-1].stop()
        before.append(start(made_of(make_toy, digest, **options), port=port))
        return before[-1]

    return serve


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "b" * 64}, "policy_sha256: bbbb.*, before aaaa"),
        ({"nfe": 4}, "nfe: 4, before 1"),
        ({"solver": "heun"}, "solver: heun, before euler"),
        ({"noise_scale": 0.5}, r"noise_scale: 0\.5, before 1\.0"),
        ({"horizon": 8}, "horizon: 8, before 6"),
        ({"digest": ""}, "policy_sha256: , before aaaa"),
    ],
)
def test_a_client_keeps_refusing_until_it_is_told_to_take_it(
    restart: Callable[..., Any], obs: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    with WebsocketClientPolicy(port=restart("a" * 64).port, timeout=WAIT) as client:
        client.infer(obs())
        restart(**({"digest": "a" * 64} | change))
        for _ in range(3):
            with pytest.raises(PolicyChangedError, match=message) as raised:
                client.infer(obs())
            with pytest.raises(PolicyChangedError):
                client.select_action(obs())
        assert len(raised.value.changes) == 1
        assert client.horizon == 6
        changes = client.accept_policy()
        assert changes == list(raised.value.changes)
        assert client.infer(obs())["actions"].shape == (4, 3)
        assert client.horizon == change.get("horizon", 6)


def test_a_client_goes_on_when_the_old_policy_is_back(
    restart: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    with WebsocketClientPolicy(port=restart("a").port, timeout=WAIT) as client:
        restart("b")
        with pytest.raises(PolicyChangedError):
            client.infer(obs())
        restart("a")
        assert client.infer(obs())["actions"].shape == (4, 3)


def test_a_client_keeps_what_it_knows_when_nobody_is_there_to_accept(
    restart: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    server = restart("a")
    with WebsocketClientPolicy(port=server.port, timeout=WAIT, wait=0.2) as client:
        server.stop()
        with pytest.raises(ConnectionError):
            client.accept_policy()
        assert client.metadata["policy_sha256"] == "a"
        assert client.fake_obs()["state"].shape == (3,)


def test_what_a_caller_does_to_the_metadata_changes_nothing(
    restart: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    with WebsocketClientPolicy(port=restart("a").port, timeout=WAIT) as client:
        client.metadata["observations"]["state"]["shape"].append(7)
        client.metadata["observations"]["state"]["low"] = None
        restart("a")
        assert client.infer(obs())["actions"].shape == (4, 3)
        assert client.fake_obs()["state"].shape == (3,)


# -- in the loop ----------------------------------------------------------------------------------


def run(robot: MovingRobot, port: int, **options: Any) -> Any:
    given = ControlOptions(hang_timeout=120.0, **options)
    with WebsocketClientPolicy(port=port, timeout=1.0) as policy:
        return ControlLoop(robot, policy, hz=50, options=given).run()


def test_the_run_stops_when_the_policy_has_changed(
    restart: Callable[..., Any], obs: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = restart("a")
    robot = MovingRobot(obs(1), {12: lambda: restart("b")})
    result = run(robot, first.port)
    assert (result.reason, result.policy_changes, robot.stops) == ("policy changed", 1, 1)
    assert result.to_dict()["policy_changes"] == 1
    # No more than the rest of the chunk that the old policy gave.
    assert max(robot.moved()) <= 12 + 4
    assert "serves another policy now: policy_sha256: b, before a" in caplog.text


@pytest.mark.parametrize("on_miss", ["hold", "continue"])
def test_the_robot_holds_until_the_old_policy_is_back(
    restart: Callable[..., Any],
    obs: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    on_miss: str,
) -> None:
    caplog.set_level(logging.WARNING)
    first = restart("a")
    robot = MovingRobot(obs(1), {12: lambda: restart("b"), 40: lambda: restart("a")})
    result = run(robot, first.port, on_policy_change="hold", on_miss=on_miss)
    assert (result.reason, result.policy_changes, robot.stops) == ("done", 1, 1)
    moved = robot.moved()
    assert any(tick < 12 for tick in moved) and any(tick > 40 for tick in moved)
    assert not any(12 + 8 < tick < 40 for tick in moved)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("holding until the old policy is back" in message for message in messages) == 1
    assert sum("the policy is back" in message for message in messages) == 1


def test_a_policy_change_is_bad_input_for_whoever_knows_nothing_of_it() -> None:
    assert issubclass(PolicyChangedError, InputError)
