"""A robot whose policy is on another machine, which goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.control import ControlLoop, ControlOptions

from .moving_robot import MovingRobot

GONE, BACK = 12, 30


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
