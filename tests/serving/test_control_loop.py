"""A robot whose policy is on another machine, which goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.control import ControlLoop

GONE, BACK, END = 12, 30, 400


class Robot:
    """Stops and starts the server between its ticks; ends some ticks after it has moved again."""

    simulated = True

    def __init__(
        self, obs: dict[str, np.ndarray], leave: Callable[[], Any], come_back: Callable[[], Any]
    ) -> None:
        self._obs = obs
        self._events = {GONE: leave, BACK: come_back}
        self.ticks = 0
        self.actions: dict[int, np.ndarray] = {}
        self.stops = 0

    @property
    def done(self) -> bool:
        return self.ticks >= END or sum(tick > BACK for tick in self.moved()) > 20

    def moved(self) -> list[int]:
        """Return the ticks whose action was another one than before."""
        told = sorted(self.actions.items())
        pairs = zip(told, told[1:], strict=False)
        return [tick for (_, old), (tick, new) in pairs if not np.array_equal(old, new)]

    def observe(self) -> Mapping[str, Any]:
        self.ticks += 1
        self._events.get(self.ticks, lambda: None)()
        return self._obs

    def act(self, action: np.ndarray) -> None:
        self.actions[self.ticks] = action.copy()

    def stop(self) -> None:
        self.stops += 1


def test_holds_while_the_server_is_gone_and_goes_on_when_it_is_back(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    first = start(make_toy())
    robot = Robot(obs(1), leave=first.stop, come_back=lambda: start(make_toy(), port=first.port))
    with WebsocketClientPolicy(port=first.port, timeout=0.1) as policy:
        result = ControlLoop(robot, policy, hz=50).run()
    assert result.reason == "done"
    assert result.failed_calls > 0
    assert robot.stops == 1
    moved = robot.moved()
    assert any(tick < GONE for tick in moved) and any(tick > BACK for tick in moved)
    # A chunk has 4 actions: soon after the server has gone, the robot stands still.
    assert not any(GONE + 6 < tick < BACK for tick in moved)
    assert all(np.isfinite(action).all() for action in robot.actions.values())
