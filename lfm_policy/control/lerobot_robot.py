"""A robot of LeRobot in the control loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lfm_policy.errors import InputError


class LeRobotRobot:
    """Wraps a connected ``lerobot.robots.Robot``::

        arm.connect()
        options = ControlOptions(max_bad_observations=10)
        ControlLoop(LeRobotRobot(arm), policy, hz=30, options=options).run()

    The numbers of an observation become one vector, in the order of ``observation_features``, and
    every camera keeps its name; so a policy that was trained on a LeRobot dataset of the same
    robot finds its observations (``observation.state`` is called ``state`` there, and
    ``observation.images.top`` ``top``). Actions follow the order of ``action_features``.
    """

    def __init__(
        self,
        robot: Any,
        *,
        state_key: str = "state",
        rename: Mapping[str, str] | None = None,
        disconnect: bool = True,
    ) -> None:
        """Look at what the robot observes and takes.

        Args:
            robot: with LeRobot's methods; connected.
            state_key: what the policy calls the vector of all numbers.
            rename: what the policy calls a camera, by what LeRobot does.
            disconnect: disconnect it when the run ends, after it was told to stay where it is.

        Raises:
            InputError: it is not connected, or has features that are neither numbers nor images.
        """
        if not robot.is_connected:
            raise InputError(f"the robot {robot} is not connected: call its connect() first")
        self._robot = robot
        self._state_key = state_key
        self._rename = dict(rename or {})
        self._disconnect = disconnect
        self._calling = False
        self._numbers = [
            key for key, kind in robot.observation_features.items() if not isinstance(kind, tuple)
        ]
        self._cameras = [
            key for key, kind in robot.observation_features.items() if isinstance(kind, tuple)
        ]
        self._actions = list(robot.action_features)
        for key, kind in robot.action_features.items():
            if isinstance(kind, tuple):
                raise InputError(
                    f"the robot's action '{key}' has shape {kind}, expected numbers by name"
                )

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """What `observe` returns."""
        return (self._state_key, *(self._rename.get(key, key) for key in self._cameras))

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each number of an action is, as LeRobot calls it, such as ``gripper.pos``."""
        return tuple(self._actions)

    @property
    def action_dim(self) -> int:
        """Numbers in one action."""
        return len(self._actions)

    def observe(self) -> dict[str, Any] | None:
        """Return the newest observation; None when a sensor did not answer in time.

        Raises:
            InputError: a motor gives something else than a number.
        """
        try:
            raw = self._watched(self._robot.get_observation)
        except TimeoutError:
            return None
        if not isinstance(raw, Mapping):
            raise InputError(f"the robot observes {type(raw).__name__}, expected values by name")
        # What is missing stays missing, so that the loop can say what it is.
        obs = {self._rename.get(key, key): raw[key] for key in self._cameras if key in raw}
        if all(key in raw for key in self._numbers):
            obs[self._state_key] = np.array(
                [_number(key, raw[key]) for key in self._numbers], dtype=np.float64
            )
        return obs

    def act(self, action: np.ndarray) -> None:
        """Send an action, (action_dim,), in the order of ``action_features``.

        Args:
            action: in the units that LeRobot takes.
        """
        sent = {key: float(value) for key, value in zip(self._actions, action, strict=True)}
        self._watched(lambda: self._robot.send_action(sent))

    def stop(self) -> None:
        """Tell the robot to stay where it is, and disconnect it.

        While another thread hangs in a call of the robot, it is only disconnected: a second call
        would wait for the first.
        """
        try:
            if self._calling:
                return
            raw = self._robot.get_observation()
            present = {key: float(raw[key]) for key in self._actions if key in raw}
            if len(present) == len(self._actions) and np.isfinite(list(present.values())).all():
                self._robot.send_action(present)
        finally:
            if self._disconnect:
                self._robot.disconnect()

    def _watched(self, function: Callable[[], Any]) -> Any:
        self._calling = True
        try:
            return function()
        finally:
            self._calling = False


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"the robot's '{key}' is {str(value)[:60]}, expected a number") from None
