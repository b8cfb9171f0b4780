"""Starting processes that Ctrl-C does not reach."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Let processes that start now never see SIGINT; who started them ends them.

    A terminal sends it to all of them at once. A process that has not finished importing would die
    of it with a traceback, whatever it does about signals later. In this process it comes as soon
    as the context ends.
    """
    # Only the main thread handles signals, and Windows knows no masks.
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # What is blocked here stays so in the child, unless multiprocessing has its helper to start
    # too and unblocks it for that.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
