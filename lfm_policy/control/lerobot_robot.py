"""A robot of LeRobot in the control loop."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lfm_policy.errors import InputError, brief

_LOG = logging.getLogger("lfm_runtime.control")


class LeRobotRobot:
    """Wraps a connected ``lerobot.robots.Robot``::

        arm.connect()
        options = ControlOptions(max_bad_observations=10)
        ControlLoop(LeRobotRobot(arm), policy, hz=30, options=options).run()

    The numbers of an observation become one vector, in the order of ``observation_features``, and
    every camera keeps its name; so a policy that was trained on a LeRobot dataset of the same
    robot finds its observations (``observation.state`` is called ``state`` there, and
    ``observation.images.top`` ``top``). Actions follow the order of ``action_features``.
    ``lfm-policy control --robot TYPE --robot-config robot.yaml`` makes one from a file, with
    limits (`lfm_policy.control.lerobot.described_robot`).
    """

    def __init__(
        self,
        robot: Any,
        *,
        state_key: str = "state",
        rename: Mapping[str, str] | None = None,
        disconnect: bool = True,
        vectors: Mapping[str, Sequence[str]] | None = None,
        joints: Sequence[str] | None = None,
        on_stop: Callable[[np.ndarray], Iterator[np.ndarray]] | None = None,
    ) -> None:
        """Look at what the robot observes and takes.

        Args:
            robot: with LeRobot's methods; connected.
            state_key: what the policy calls the vector of all numbers.
            rename: what the policy calls a camera, by what LeRobot does.
            disconnect: disconnect it when the run ends, after it was told to stay where it is.
            vectors: the numbers of each vector of the policy, by LeRobot's names, in place of
                ``state_key`` with all of them.
            joints: the numbers of an action in the order of the policy; by default that of
                ``action_features``.
            on_stop: gives what the robot is told in the end, one after the other, from where it
                is, (action_dim,); by default to stay there.

        Raises:
            InputError: it is not connected, or has features that are neither numbers nor images.
        """
        if not robot.is_connected:
            raise InputError(f"the robot {robot} is not connected: call its connect() first")
        self._robot = robot
        self._rename = dict(rename or {})
        self._disconnect = disconnect
        self._on_stop = on_stop or _stay
        self._calling = self._told = False
        features = robot.observation_features
        numbers = [key for key, kind in features.items() if not isinstance(kind, tuple)]
        self._vectors = {state_key: numbers} if vectors is None else dict(vectors)
        self._cameras = [key for key, kind in features.items() if isinstance(kind, tuple)]
        self._actions = list(robot.action_features if joints is None else joints)
        for key, kind in robot.action_features.items():
            if isinstance(kind, tuple):
                raise InputError(
                    f"the robot's action '{key}' has shape {kind}, expected numbers by name"
                )

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """What `observe` returns."""
        return (*self._vectors, *(self._rename.get(key, key) for key in self._cameras))

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
            InputError: a motor gives something else than a number, or the robot cannot be read:
                the next time it may.
        """
        try:
            raw = self._watched(self._robot.get_observation)
        except TimeoutError:
            return None
        except Exception as error:  # a packet was lost, a camera is gone; drivers raise many kinds
            connected = "" if self._robot.is_connected else "; the robot is not connected any more"
            raise InputError(f"the robot cannot be read ({brief(error)}){connected}") from error
        if not isinstance(raw, Mapping):
            raise InputError(f"the robot observes {type(raw).__name__}, expected values by name")
        # What is missing stays missing, so that the loop can say what it is.
        obs = {self._rename.get(key, key): raw[key] for key in self._cameras if key in raw}
        for name, keys in self._vectors.items():
            if all(key in raw for key in keys):
                numbers = [_number(key, raw[key]) for key in keys]
                obs[name] = np.array(numbers, dtype=np.float64)
        return obs

    def act(self, action: np.ndarray) -> None:
        """Send an action, (action_dim,), in the order of `action_names`.

        Args:
            action: in the units that LeRobot takes.
        """
        self._told = True
        self._send(action)

    def stop(self) -> None:
        """Tell the robot to stay where it is, or what ``on_stop`` says, and disconnect it.

        One that was told nothing is told nothing now either: it stands still. Neither is one in a
        call of which another thread hangs, because a second call would wait for the first.
        """
        try:
            if self._told and not self._calling and (present := self._present()) is not None:
                for target in self._on_stop(present):
                    self._send(target)
        finally:
            if self._disconnect:
                disconnect(self._robot)

    def _present(self) -> np.ndarray | None:
        """Return where the robot is, (action_dim,); None where that cannot be read."""
        try:
            raw = self._robot.get_observation()
            present = np.array([float(raw[key]) for key in self._actions])
            if not np.isfinite(present).all():
                raise ValueError(f"it is at {present.tolist()}")
        except Exception as error:  # motors, or a camera that was the reason for the end
            _LOG.warning(
                "where the robot is cannot be read (%s): it keeps its last target", brief(error)
            )
            return None
        # A base that rolls is at no place where it could stay.
        rolling = [key.endswith(".vel") for key in self._actions]
        return np.where(rolling, 0.0, present)

    def _send(self, action: np.ndarray) -> None:
        sent = {key: float(value) for key, value in zip(self._actions, action, strict=True)}
        self._watched(lambda: self._robot.send_action(sent))

    def _watched(self, function: Callable[[], Any]) -> Any:
        self._calling = True
        try:
            return function()
        finally:
            self._calling = False


def disconnect(robot: Any) -> None:
    """Disconnect a robot of LeRobot, whatever of it is connected.

    LeRobot refuses to disconnect one of which a part is missing, such as a camera that could not
    be opened; then its other parts are: its buses, its arms, its cameras.

    Raises:
        Exception: whatever its own ``disconnect`` raises although all of it is connected.
    """
    if robot.is_connected:
        robot.disconnect()
        return
    for part in vars(robot).values():
        for device in part.values() if isinstance(part, Mapping) else (part,):
            if getattr(device, "is_connected", False) and hasattr(device, "disconnect"):
                # Each of them, whatever becomes of the others.
                with contextlib.suppress(Exception):
                    device.disconnect()


def go_to(
    rest: np.ndarray, max_change: np.ndarray, hz: float
) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """Return what leads a robot from where it is to ``rest``, a step at a time, for ``on_stop``.

    Args:
        rest: (action_dim,).
        max_change: the largest change from step to step, (action_dim,).
        hz: steps per second, which really pass.
    """

    def way(present: np.ndarray) -> Iterator[np.ndarray]:
        steps = max(math.ceil(float(np.max(np.abs(rest - present) / max_change))), 1)
        for step in range(1, steps + 1):
            yield present + (rest - present) * (step / steps)
            time.sleep(1 / hz)

    return way


def _stay(present: np.ndarray) -> Iterator[np.ndarray]:
    yield present


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"the robot's '{key}' is {str(value)[:60]}, expected a number") from None
