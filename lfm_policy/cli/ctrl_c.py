"""Ctrl-C before and after a command: no traceback, and it is never lost."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

_AGAIN_SECONDS = 0.02


def watch_lost_interrupts() -> None:
    """Give a KeyboardInterrupt that Python would print and forget a second chance.

    Where nothing can be raised, such as in the callbacks of weak references that imports use, Python
    prints a traceback of it and goes on. Here it comes again a moment later.
    """
    usual = sys.unraisablehook

    def look(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Not at once: this is still where nothing can be raised.
            signal.signal(signal.SIGALRM, _again)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            usual(unraisable)

    sys.unraisablehook = look


def _again(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def ends_at_once(code: int) -> None:
    """Let Ctrl-C end the process from now on, with this exit code and nothing else."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(code)

    signal.signal(signal.SIGINT, leave)
