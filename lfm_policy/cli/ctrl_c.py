"""Ctrl-C before, in and after a command: no traceback, and it is never lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_AGAIN_SECONDS = 0.02


@contextmanager
def raised_by_ctrl_c() -> Iterator[None]:
    """Make a KeyboardInterrupt of every error that comes of one.

    Python turns what is raised while a class is made into a RuntimeError, extension modules make an
    ImportError of it, and what is closed on the way out may fail. What somebody raised on purpose
    in its place (``from None``), such as `Interrupted`, stays.
    """
    try:
        yield
    except Exception as error:
        if _came_of_ctrl_c(error):
            raise KeyboardInterrupt from error
        raise


def _came_of_ctrl_c(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


def watch_lost_interrupts() -> None:
    """Give a KeyboardInterrupt that Python would print and forget a second chance.

    Where nothing can be raised, such as in the callbacks of weak references that imports use,
    Python prints a traceback of it and goes on. Here it comes again a moment later. Extension
    modules that print what was raised while they were imported print nothing of it.
    """
    usual, usual_print = sys.unraisablehook, sys.excepthook

    def look(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Not at once: this is still where nothing can be raised.
            if hasattr(signal, "setitimer"):  # not on Windows
                signal.signal(signal.SIGALRM, _again)
                signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            usual(unraisable)

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual_print(kind, error, trace)

    sys.unraisablehook, sys.excepthook = look, show


def _again(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def ends_at_once(code: int) -> None:
    """Let Ctrl-C end the process from now on, with this exit code and nothing else."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(code)

    signal.signal(signal.SIGINT, leave)
