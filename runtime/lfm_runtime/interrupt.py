"""Stopping cleanly on the signals that end a process: SIGINT, SIGTERM, SIGHUP, SIGQUIT."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""What a process gets whose terminal is closed, or whose ssh connection is lost; not on Windows."""

_QUIT: int | None = getattr(signal, "SIGQUIT", None)
"""Of Ctrl-\\, which people press when Ctrl-C seems to do nothing."""


class InterruptFlag:
    """Remembers that SIGINT, SIGTERM or SIGHUP came: a loop can stop between two steps.

    A second SIGINT raises KeyboardInterrupt at once, for people who do not want to wait. Handlers
    are put back on exit. SIGHUP stays ignored where it is, as under nohup. Outside the main
    thread, where Python allows no handlers, nothing is watched and the flag stays off.

    Args:
        second_raises: whether a second SIGINT does that. Where something must be brought to its
            end whatever happens, it must not; SIGQUIT is then remembered too.
    """

    def __init__(self, *, second_raises: bool = True) -> None:
        self.name: str | None = None
        self._second_raises = second_raises
        self._previous: dict[int, Any] = {}
        self._interruption: Callable[[], BaseException | None] | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    def __enter__(self) -> InterruptFlag:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT, signal.SIGTERM, *self._others()):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _others(self) -> Iterator[int]:
        if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:
            yield HANGUP
        if _QUIT is not None and not self._second_raises:
            yield _QUIT

    @property
    def watches(self) -> bool:
        """Whether signals are remembered: between enter and exit, in the main thread."""
        return bool(self._previous)

    def interrupt_main_thread(self, interruption: Callable[[], BaseException | None]) -> None:
        """Raise something in the main thread, from another one, even where it waits or sleeps.

        Where it is inside of a library that never comes back to Python, nothing can be raised.

        Args:
            interruption: called in the main thread; returns what to raise there, or None.
        """
        main = threading.main_thread().ident
        if not self.watches or main is None or not hasattr(signal, "pthread_kill"):
            return
        self._interruption = interruption
        signal.pthread_kill(main, signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        interruption, self._interruption = self._interruption, None
        if interruption is not None:
            error = interruption()
            if error is not None:
                raise error
            return
        if self.name is not None and number == signal.SIGINT and self._second_raises:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Let signals wait until the end of the block, which they cannot break off."""
    with InterruptFlag(second_raises=False) as flag:
        yield
    if flag.name is not None:
        signal.raise_signal(signal.Signals[flag.name])
