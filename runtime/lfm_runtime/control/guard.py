"""The robot of one run: no call of it goes unwatched, and it is stopped once, whatever happens."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from lfm_runtime.control.robot import Robot

_LOG = logging.getLogger("lfm_runtime.control")
_LONGEST_PAUSE = 0.1
"""Seconds between two looks of the watchdog."""
_BEGINNING = 60.0
"""Seconds beyond the usual that a robot may take to begin: cameras warm up."""

T = TypeVar("T")


class Hang(BaseException):
    """A call has not returned in time, and the robot was stopped meanwhile.

    No `Exception`: it is raised inside of foreign code that hangs, which must not take it for an
    error of its own.
    """


@dataclass(frozen=True, eq=False)
class Call:
    """A call under way: of whom, such as ``robot``, its name, its seconds, when it is overdue."""

    owner: str
    name: str
    seconds: float
    deadline: float


class RobotGuard:
    """Calls a robot, and whatever else could keep the loop from stopping it.

    A thread watches these calls. When one takes too long, it stops the robot, because the thread
    that runs the loop cannot; after that no call is begun any more, and the one that hangs raises
    `Hang` should it ever return.

    Attributes:
        hung: whose call took too long, such as ``robot``; empty: none did.
        stopping: whether the robot has been stopped, or is just being.
        on_hang: what the watchdog does when it has stopped the robot because of a call.
    """

    def __init__(self, robot: Robot, *, hang_timeout: float, watched: bool) -> None:
        """Begin to watch.

        Args:
            robot: what is run.
            hang_timeout: seconds that a call may take.
            watched: False: without a thread, for robots whose time is simulated.
        """
        self.hung = ""
        self._robot = robot
        self._hang_timeout = hang_timeout
        self._lock = threading.Lock()
        self._call: Call | None = None
        self.stopping = False
        self._stop_overdue = 0.0
        self._stopped = threading.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self.on_hang: Callable[[Call], None] = lambda call: None
        self._thread: threading.Thread | None = None
        if watched:
            self._thread = threading.Thread(target=self._watch, name="lfm-watchdog", daemon=True)
            self._thread.start()
        # The interpreter may end while the loop runs in a thread that it does not wait for.
        atexit.register(self.stop)

    # -- calls, from the thread of the loop ---------------------------------------------------

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each number of an action is, where the robot says so; else empty."""
        return tuple(getattr(self._robot, "action_names", ()))

    def begin(self) -> None:
        """Let the robot do what it has to do before a run, if anything."""
        begin = getattr(self._robot, "begin_run", None)
        if begin is not None:
            self.call("robot", "begin_run", begin, extra=_BEGINNING)

    def observe(self) -> Mapping[str, Any] | None:
        """Return what the robot observes."""
        return self.call("robot", "observe", self._robot.observe)

    def act(self, action: np.ndarray) -> None:
        """Tell the robot what to do; it gets an array of its own."""
        self.call("robot", "act", lambda: self._robot.act(np.array(action)))

    def done(self) -> bool:
        """Whether the robot says that its task is over."""
        return self.call("robot", "done", lambda: bool(getattr(self._robot, "done", False)))

    def call(self, owner: str, name: str, function: Callable[[], T], *, extra: float = 0.0) -> T:
        """Return what a function returns, watching how long it takes.

        Args:
            owner: whose it is, for messages.
            name: of the function, for messages.
            function: takes nothing.
            extra: seconds that it may take beyond the usual.

        Raises:
            Hang: it took too long, or the robot is stopped already.
            BaseException: what the function raises.
        """
        seconds = self._hang_timeout + extra
        call = Call(owner, name, seconds, time.monotonic() + seconds)
        with self._lock:
            if self.stopping:
                raise Hang
            self._call = call
        try:
            return function()
        finally:
            with self._lock:
                self._call = None
                stopping = self.stopping
            if stopping:
                raise Hang

    # -- the end ------------------------------------------------------------------------------

    def is_under_way(self, call: Call) -> bool:
        """Whether a call has not returned; may be asked from a handler of signals."""
        return self._call is call  # without the lock, which the interrupted thread may hold

    def returns(self, call: Call, seconds: float) -> bool:
        """Wait for a call to return, so long at most; return whether it did."""
        end = time.monotonic() + seconds
        while self.is_under_way(call) and time.monotonic() < end:
            self._over.wait(_LONGEST_PAUSE)
        return not self.is_under_way(call)

    def stop(self) -> None:
        """Stop the robot unless that was begun already; returns when it is done.

        Raises:
            BaseException: what the robot raised when it was stopped; once.
        """
        with self._lock:
            self._call = None  # whoever stops the robot hangs nowhere else
            first, self.stopping = not self.stopping, True
        if first:
            self._stop_robot()
        self._stopped.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the watchdog; the robot has been stopped."""
        atexit.unregister(self.stop)
        self._over.set()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(self._hang_timeout)

    def _stop_robot(self) -> None:
        self._stop_overdue = time.monotonic() + self._hang_timeout
        try:
            self._robot.stop()
        except BaseException as error:
            self._error = error
        finally:
            self._stopped.set()

    def _watch(self) -> None:
        pause = min(_LONGEST_PAUSE, self._hang_timeout / 10)
        while not self._over.wait(pause):
            call, now = self._call, time.monotonic()
            if self.stopping:
                if not self._stopped.is_set() and now > self._stop_overdue > 0:
                    # Nobody else can bring the robot to rest, so nothing interrupts it.
                    _LOG.critical("robot.stop() takes long; only SIGKILL ends it before its time")
                    return
            elif call is not None and now > call.deadline and self._take_over(call):
                text = "%s.%s() has not returned for %g seconds: stopping the robot"
                _LOG.critical(text, call.owner, call.name, call.seconds)
                self._stop_robot()
                if self._error is not None:
                    _LOG.critical("the robot could not be stopped: %r", self._error)
                self.on_hang(call)
                return

    def _take_over(self, call: Call) -> bool:
        """Take the stopping of the robot upon the watchdog, unless the call has just returned."""
        with self._lock:
            if self._call is not call or self.stopping:
                return False
            self.stopping = True
            self.hung = call.owner
        return True
