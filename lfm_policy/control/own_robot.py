"""A robot of somebody's own code: what it was told is kept, and what it raises is known as its."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lfm_policy.errors import InputError, RobotError, brief
from lfm_runtime.control.options import ControlOptions
from lfm_runtime.control.robot import Robot
from lfm_runtime.policy.spec import DataSpec

T = TypeVar("T")
_OURS = str(Path(__file__).parents[1])


class OwnRobot:
    """A robot for the loop, whose failures are told from those of the policy::

        own = OwnRobot(robot)
        with own.named():
            result = ControlLoop(own, policy, hz=10).run()

    Attributes:
        actions: that it was told.
        step: returns the step of the run under way; None: there is none yet.
    """

    def __init__(self, robot: Robot) -> None:
        self.actions: list[np.ndarray] = []
        self.step: Callable[[], int | None] = lambda: None
        self._robot = robot
        self._failed: list[tuple[Exception, str]] = []
        self._stopped = False

    @contextmanager
    def named(self) -> Iterator[None]:
        """Say of what the robot raises inside that it was the robot, and whether it was stopped.

        Raises:
            RobotError: in place of that, which is its cause.
        """
        try:
            yield
        except Exception as error:
            if not any(error is failure for failure, _ in self._failed):
                raise
            calls = "; its ".join(text for _, text in self._failed)
            end = "the robot was stopped" if self._stopped else "it may still move: stop it by hand"
            raise RobotError(f"the robot's {calls}; {end}") from error

    def prepare(self, spec: DataSpec, options: ControlOptions) -> ControlOptions:
        """Return the options of a run with the robot's own limits, if it has any."""
        prepare = getattr(self._robot, "prepare", None)
        if prepare is None:
            return options
        prepared: ControlOptions = self._call("prepare()", lambda: prepare(spec, options))
        return prepared

    def begin_run(self) -> None:
        """Let the robot do what it has to do before a run, if anything."""
        begin = getattr(self._robot, "begin_run", None)
        if begin is not None:
            self._call("begin_run()", begin)

    @property
    def done(self) -> bool:
        """Whether the robot says that its task is over."""
        return self._call("done", lambda: bool(getattr(self._robot, "done", False)))

    def observe(self) -> Mapping[str, Any] | None:
        """Return what the robot observes."""
        return self._call("observe()", self._robot.observe)

    def act(self, action: np.ndarray) -> None:
        """Tell the robot what to do, and keep it."""
        self.actions.append(action.copy())
        self._call("act()", lambda: self._robot.act(action))

    def stop(self) -> None:
        """Stop the robot."""
        self._call("stop()", self._robot.stop)
        self._stopped = True

    def __getattr__(self, name: str) -> Any:  # `simulated`, `obs_keys`, ..., where it has them
        return getattr(self._robot, name)

    def _call(self, name: str, function: Callable[[], T]) -> T:
        try:
            return function()
        except InputError:  # bad data, or a message that says all
            raise
        except Exception as error:
            step = self.step()
            at = "" if step is None else f" at step {step}"
            self._failed.append((error, f"{name} failed{at}: {raised(error)}"))
            raise


def raised(error: Exception) -> str:
    """Return an error of somebody's own code in one line, with the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    place = f" ({foreign[-1].filename}, line {foreign[-1].lineno})" if foreign else ""
    return brief(error) + place
