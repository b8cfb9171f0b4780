"""A robot of LeRobot as ``robot.yaml`` describes it, with its limits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.control.lerobot.names import JOINTS, Sources, observation_sources
from lfm_policy.control.lerobot.registry import make_lerobot_robot, motor_units
from lfm_policy.control.lerobot.robot_file import RobotDescription
from lfm_policy.control.lerobot_robot import LeRobotRobot, disconnect, go_to
from lfm_policy.errors import InputError, OptionError, brief
from lfm_runtime.control import ControlOptions
from lfm_runtime.policy.observations import checked_frames
from lfm_runtime.policy.spec import TASK_KEY, DataSpec
from lfm_runtime.policy.tasks import unsaid_task

_LOG = logging.getLogger("lfm_runtime.control")
_FIRST_MOVE = 3.0


class DescribedRobot:
    """What ``--robot TYPE --robot-config robot.yaml`` controls::

        robot = DescribedRobot("so101_follower", "robot.yaml")
        run_robot(policy, robot, hz=robot.hz)

    It is connected when a run begins, and disconnected whatever ends it. In a dry run it is told
    nothing at all.

    Attributes:
        hz: steps per second, as the file says.
    """

    def __init__(self, type: str, config: str | Path) -> None:
        """Read the file and make LeRobot's robot; it is not connected.

        Args:
            type: in LeRobot's registry, such as ``so101_follower``.
            config: path of the file.

        Raises:
            InputError: something is missing or wrong; the message names the line.
        """
        self._said = said = RobotDescription(config)
        self.type = type
        self.hz = float(said.file.hz or 0.0)
        self.facts = {"type": type, **said.plain}
        self._robot = robot = make_lerobot_robot(type, said.file.robot, str(config))
        units = motor_units(robot)
        known = {name: units.get(name, "") for name in robot.action_features}
        said.check_joints(known)
        if list(said.joints) != list(known):
            _LOG.warning(
                "%s: the joints are in another order than LeRobot records them in (%s): right only "
                "if the demonstrations have this one",
                said.path,
                ", ".join(known),
            )
        features = robot.observation_features
        self._observed = all(name in features for name in said.joints)
        self._spec: DataSpec | None = None
        self._sources: Sources = {}
        self._driven: LeRobotRobot | None = None
        self._begun = False

    @property
    def action_names(self) -> tuple[str, ...]:
        """The joints, in the order of the policy's actions."""
        return tuple(self._said.joints)

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """What `observe` returns once it is prepared; the joints even if no policy sees them."""
        cameras = [
            key for key, kind in self._robot.observation_features.items() if _is_camera(kind)
        ]
        return tuple(dict.fromkeys([*self._sources, *self._position(), *cameras]))

    def prepare(self, spec: DataSpec, options: ControlOptions) -> ControlOptions:
        """Check that a policy fits, and return the options of the loop with the file's limits.

        Where an option says a limit too, the stricter one holds.

        Raises:
            InputError: names or shapes are not those of the policy, or an option does not suit
                the robot.
        """
        said, file = self._said, self._said.file
        if spec.tasks and TASK_KEY not in file.observations:  # no robot of LeRobot observes it
            raise unsaid_task(spec)
        features = self._robot.observation_features
        try:
            self._sources = observation_sources(
                spec, features, self.action_names, file.observations
            )
        except OptionError as error:
            raise said.wrong(error) from None
        self._spec = spec
        if any(name.endswith(".vel") for name in said.joints):
            for option in ("on_miss", "on_policy_change"):
                given = getattr(options, option)
                if given != "stop" and (given != "hold" or options.hold_action is None):
                    raise InputError(
                        f"{option} is '{given}', but '{self.type}' takes velocities, with which "
                        "the last action again is no standing still: give "
                        f"--{option.replace('_', '-')} stop, or --hold-action, what stands still"
                    )
        position = options.position_key or next(iter(self._position()), None)
        first_move = options.first_move or file.first_move
        if first_move is None and position and all(n.endswith(".pos") for n in said.joints):
            first_move = _FIRST_MOVE
        low, high, change = (
            self._stricter(name, getattr(options, name), stricter)
            for name, stricter in (
                ("low", np.maximum),
                ("high", np.minimum),
                ("max_change", np.minimum),
            )
        )
        return replace(
            options,
            low=low.tolist(),
            high=high.tolist(),
            max_change=change.tolist(),
            max_staleness=min(filter(None, (file.max_staleness, options.max_staleness))),
            max_bad_observations=min(
                filter(None, (file.max_bad_observations, options.max_bad_observations))
            ),
            position_key=position,
            first_move=first_move,
        )

    def _stricter(self, name: str, given: Any, stricter: Callable[..., Any]) -> np.ndarray:
        """Return the limits of the file, or those of an option where they are stricter."""
        limits = self._said.limits(name)
        if given is None:
            return limits
        if np.shape(given) not in ((), limits.shape):
            raise InputError(
                f"{name} has {np.size(given)} numbers, expected one, or {len(limits)}: "
                + ", ".join(self.action_names)
            )
        result: np.ndarray = stricter(limits, np.asarray(given, np.float64))
        return result

    def begin_run(self) -> None:
        """Connect the robot, and check what it observes and where it stands.

        Raises:
            InputError: it cannot be connected, is not calibrated, gives no whole observation, or
                stands outside of its limits.
        """
        assert self._spec is not None, "prepare() comes first"
        robot, label = self._robot, f"'{self.type}' ({self._robot})"
        self._begun = True
        try:
            robot.connect(calibrate=False)  # which would ask a person, and let the arm fall
        except Exception as error:
            raise InputError(
                f"{label} cannot be connected ({brief(error)}): is it powered and plugged in, and "
                f"are port and cameras in {self._said.path} the right ones? lerobot-find-port and "
                "lerobot-find-cameras list them"
            ) from error
        if not robot.is_calibrated:
            raise InputError(
                f"{label} is not calibrated, or not as its motors say: is 'id' under 'robot' in "
                f"{self._said.path} the one that it was calibrated by? If so, or if it never was: "
                f"lerobot-calibrate --robot.type={self.type} --robot.port=... --robot.id=..."
            )
        self._driven = driven = self._wrapped()
        obs = self._first_observation(driven)
        if self._observed:
            self._check_position(np.asarray(obs[next(iter(self._position()))]))

    def observe(self) -> dict[str, Any] | None:
        """Return the newest observation; see `LeRobotRobot`."""
        return self._connected().observe()

    def act(self, action: np.ndarray) -> None:
        """Send an action, (joints,), in the order of the file.

        Raises:
            ConnectionError: the robot does not take it.
        """
        try:
            self._connected().act(action)
        except Exception as error:
            raise ConnectionError(f"{self.type} did not take an action: {brief(error)}") from error

    def stop(self) -> None:
        """Do what ``on_stop`` says and disconnect; a robot that was told nothing is told nothing.

        Raises:
            ConnectionError: one of both did not succeed.
        """
        driven, self._driven = self._driven, None
        try:
            if driven is not None:
                driven.stop()
            elif self._begun:
                disconnect(self._robot)
        except Exception as error:
            raise ConnectionError(
                f"{self.type} could not be told to stop, or not be disconnected: {brief(error)}"
            ) from error

    def _position(self) -> dict[str, tuple[str, ...]]:
        """Return the vector of all joints, by the policy's name or our own; empty: not observed."""
        if not self._observed:
            return {}
        named = [key for key, source in self._sources.items() if source == self.action_names]
        return {(named or [JOINTS])[0]: self.action_names}

    def _wrapped(self) -> LeRobotRobot:
        vectors = {key: s for key, s in self._sources.items() if not isinstance(s, str)}
        rest = self._said.rest()
        on_stop = None if rest is None else go_to(rest, self._said.limits("max_change"), self.hz)
        return LeRobotRobot(
            self._robot,
            rename={s: key for key, s in self._sources.items() if isinstance(s, str)},
            vectors=vectors | self._position(),
            joints=self.action_names,
            on_stop=_nothing if self._said.file.on_stop == "nothing" else on_stop,
        )

    def _first_observation(self, driven: LeRobotRobot) -> dict[str, Any]:
        """Return a whole observation; the first frames of a camera may be late."""
        assert self._spec is not None
        problem = InputError("there is no new observation")
        for _ in range(self._said.file.max_bad_observations or 1):
            try:
                if (obs := driven.observe()) is not None:
                    checked_frames(obs, self._spec)
                    return obs
            except InputError as error:
                problem = error
            time.sleep(1 / self.hz)
        raise InputError(f"{self.type} gives no whole observation: {problem}")

    def _check_position(self, position: np.ndarray) -> None:
        said = self._said
        if not np.isfinite(position).all():
            raise InputError(f"{self.type} stands nowhere: its joints are {position.tolist()}")
        low, high, change = (said.limits(name) for name in ("low", "high", "max_change"))
        for name, at, least, most, step in zip(
            said.joints, position, low, high, change, strict=True
        ):
            if not least - step <= at <= most + step:
                raise InputError(
                    f"joint '{name}' stands at {at:.4g} {said.joints[name].unit}, outside of its "
                    f"limits, {least:g} to {most:g}, and would be called back at once: move it "
                    f"there by hand, or correct limits or unit in {said.path}"
                )

    def _connected(self) -> LeRobotRobot:
        if self._driven is None:
            raise ConnectionError(f"{self.type} is not connected")
        return self._driven


def _nothing(present: np.ndarray) -> Iterator[np.ndarray]:
    yield from ()


def _is_camera(kind: Any) -> bool:
    return isinstance(kind, tuple)
