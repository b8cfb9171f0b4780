"""A robot whose policy is on another machine, which goes away and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.control import ROBOTS
from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.control import ControlLoop, ControlOptions

from .moving_robot import MovingRobot

GONE, BACK = 12, 30
WAIT = 20.0


def test_holds_while_the_server_is_gone_and_goes_on_when_it_is_back(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    first = start(make_toy())
    events = {GONE: first.stop, BACK: lambda: start(make_toy(), port=first.port)}
    robot = MovingRobot(obs(1), events, moves=20)
    with WebsocketClientPolicy(port=first.port, timeout=0.1) as policy:
        # Servers start and stop within its ticks: on a busy machine that takes its time.
        options = ControlOptions(hang_timeout=120.0)
        result = ControlLoop(robot, policy, hz=50, options=options).run()
    assert result.reason == "done"
    assert result.failed_calls > 0
    assert robot.stops == 1
    moved = robot.moved()
    assert any(tick < GONE for tick in moved) and any(tick > BACK for tick in moved)
    # A chunk has 4 actions: soon after the server has gone, the robot stands still.
    assert not any(GONE + 6 < tick < BACK for tick in moved)
    assert all(np.isfinite(action).all() for action in robot.actions.values())


@pytest.mark.parametrize(
    ("more", "code"), [([], 0), (["--task", "pick"], 2), (["--lead", "99"], 2)]
)
def test_the_command_takes_its_leave_of_the_server(
    start: Callable[..., Any],
    toy: Any,
    obs: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    code: int,
) -> None:
    running = start(toy)
    monkeypatch.setattr(ROBOTS, "_entries", {"moving": lambda: MovingRobot(obs(1), {0: str})})
    line = f"control ws://127.0.0.1:{running.port} --robot moving --max-ticks 3 --quiet"
    assert main([*line.split(), *more]) == code
    end = time.monotonic() + WAIT
    while not running.metric("connections_closed_total", reason="client"):
        assert time.monotonic() < end and not running.metric(
            "connections_closed_total", reason="lost"
        )
        time.sleep(0.01)
