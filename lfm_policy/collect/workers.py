"""Processes that record episodes, one environment and one thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from lfm_policy.collect.attempts import MAXIMUM_CRASHES, Attempts, keep
from lfm_policy.collect.demonstrator import Demonstrator, make_demonstrator
from lfm_policy.collect.episode import record_episode
from lfm_policy.collect.options import CollectOptions
from lfm_policy.data.robomimic.demos import DemoRecording
from lfm_policy.errors import CollectError
from lfm_runtime.child_processes import deaf_to_ctrl_c

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_demonstrator: Demonstrator | None = None  # of this process


def attempt(path: Path, options: CollectOptions, seed: int) -> bool:
    """Record one episode in this process, and add it to the recording if it succeeds.

    Returns:
        Whether it did.
    """
    global _demonstrator
    if _demonstrator is None:
        _demonstrator = make_demonstrator(options)
    demo = record_episode(_demonstrator, options, seed)
    return keep(DemoRecording(path, options.facts()), seed, demo)


class Workers(Attempts):
    """Runs attempts in processes; when one dies, its episode is run again in a new one."""

    def __init__(
        self,
        number: int,
        path: Path,
        options: CollectOptions,
        run: Callable[[Path, CollectOptions, int], bool] = attempt,
    ) -> None:
        """Prepare to run attempts; processes start with the first one.

        Args:
            number: of processes.
            path: of the recording, see `DemoRecording`.
            options: of the recording.
            run: makes an attempt; a function of a module.
        """
        super().__init__(number)
        self._run, self._path, self._options = run, path, options
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, seed: int) -> None:
        """Start an attempt."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._number,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
            )
        with _one_thread(), deaf_to_ctrl_c():
            future = self._pool.submit(self._run, self._path, self._options, seed)
        self._running[future] = seed

    def collect(self, timeout: float) -> list[tuple[int, bool]]:
        """Return the attempts that have ended by now; see `Attempts.collect`."""
        ended, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        results = []
        broken = False
        for future in ended:
            try:
                results.append((self._running[future], future.result()))
                del self._running[future]
            except BrokenProcessPool:
                broken = True
        if broken:
            self._start_again()
        return results

    def close(self, *, now: bool = False) -> None:
        """End the processes; with ``now``, in the middle of what they do."""
        if self._pool is None:
            return
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=not now, cancel_futures=True)
        if now:
            for process in processes:
                process.terminate()
        self._pool = None

    def _start_again(self) -> None:
        # One dead process ends the whole pool; whose episode killed it, nobody can tell.
        seeds = sorted(self._running.values())
        self.crashes += 1
        self._crashed.update(seeds)
        worst, times = self._crashed.most_common(1)[0]
        if times >= MAXIMUM_CRASHES:
            raise CollectError(
                f"the process that recorded the episode of seed {worst} died {times} times "
                "(out of memory, or a crash of the simulator); what is recorded is kept, and the "
                "same command goes on from there"
            )
        self.close(now=True)
        self._running.clear()
        for seed in seeds:
            self.submit(seed)


def _begin() -> None:
    """Prepare a worker process."""
    # Ctrl-C reaches every process of the terminal; the first one decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """End this process when its parent does, even if that was killed."""
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start now compute with one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
