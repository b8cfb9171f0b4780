"""Who records episodes: processes of this machine, one thread each, or tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from lfm_policy.collect.demonstrator import Demonstrator, make_demonstrator
from lfm_policy.collect.episode import record_episode
from lfm_policy.collect.options import CollectOptions
from lfm_policy.data.robomimic.demos import Demo, DemoRecording
from lfm_policy.errors import CollectError
from lfm_policy.ray_cluster import MAXIMUM_LOSSES, RayPool, WorkerLostError
from lfm_runtime.child_processes import deaf_to_ctrl_c

MAXIMUM_CRASHES = 3
"""Crashes during one episode after which it is given up."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_demonstrator: tuple[CollectOptions, Demonstrator] | None = None  # of this process


def keep(recording: DemoRecording, seed: int, demo: Demo | None) -> bool:
    """Add the demo of an attempt, or mark its failure (None); returns whether there is a demo."""
    if demo is None:
        recording.skip(seed, "no success")
    else:
        recording.add(seed, demo)
    return demo is not None


def attempt(path: Path, options: CollectOptions, seed: int) -> bool:
    """Record one episode in this process, and add it to the recording if it succeeds.

    Returns:
        Whether it did.
    """
    return keep(DemoRecording(path, options.facts()), seed, _record(options, seed))


def _record(options: CollectOptions, seed: int) -> Demo | None:
    global _demonstrator
    if _demonstrator is None or _demonstrator[0] != options:
        if _demonstrator is not None:
            _demonstrator[1].close()
        _demonstrator = (options, make_demonstrator(options))
    return record_episode(_demonstrator[1], options, seed)


class Workers:
    """Runs attempts in processes; when one dies, its episode is run again in a new one.

    Attributes:
        number: of attempts at the same time.
        crashes: how often a process died.
    """

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
        self.number, self.crashes = number, 0
        self._run, self._path, self._options = run, path, options
        self._running: dict[Future[bool], int] = {}
        self._crashed: Counter[int] = Counter()
        self._pool: ProcessPoolExecutor | None = None

    @property
    def running(self) -> set[int]:
        """Seeds of the attempts that are under way."""
        return set(self._running.values())

    def submit(self, seed: int) -> None:
        """Start an attempt."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.number,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
            )
        with _one_thread(), deaf_to_ctrl_c():
            future = self._pool.submit(self._run, self._path, self._options, seed)
        self._running[future] = seed

    def collect(self, timeout: float) -> list[tuple[int, bool]]:
        """Return the attempts that have ended by now: seed and whether it succeeded.

        Args:
            timeout: how long to wait for the first, in seconds.

        Raises:
            CollectError: an episode has crashed `MAXIMUM_CRASHES` times.
            InputError: the environment cannot be made.
        """
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
    before = {name: os.environ[name] for name in _THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name in _THREADS:
            del os.environ[name]
        os.environ.update(before)


class RayWorkers:
    """Runs attempts on a Ray cluster; used as `Workers`."""

    def __init__(
        self, number: int, path: Path, options: CollectOptions, *, address: str | None = None
    ) -> None:
        """Connect to a cluster, or start a local one.

        Args:
            number: attempts that run at the same time.
            path: of the recording, on this machine.
            options: of the recording.
            address: of a running cluster (``auto``, ``host:port``); a local one when None.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
        """
        self.number, self._options = number, options
        self._pool = RayPool(_record, address=address, cpus=number)
        self._recording = DemoRecording(path, options.facts())

    @property
    def running(self) -> set[int]:
        """Seeds of the attempts that are under way."""
        return set(self._pool.running)

    @property
    def crashes(self) -> int:
        """How often a worker was lost."""
        return self._pool.losses

    def submit(self, seed: int) -> None:
        """Start an attempt."""
        self._pool.submit(seed, self._options, seed)

    def collect(self, timeout: float) -> list[tuple[int, bool]]:
        """Return the attempts that have ended by now; see `Workers.collect`."""
        try:
            ended = self._pool.ended(timeout)
        except WorkerLostError as error:
            raise CollectError(
                f"the worker that recorded the episode of seed {error.key} was lost "
                f"{MAXIMUM_LOSSES} times, the last time with: {error}; what is recorded is kept, "
                "and the same command goes on from there"
            ) from None
        return [(seed, keep(self._recording, seed, demo)) for seed, demo, _ in ended]

    def close(self, *, now: bool = False) -> None:
        """Leave the cluster; with ``now``, end what is under way there."""
        self._pool.close(now=now)
