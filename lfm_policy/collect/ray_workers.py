"""Record episodes as tasks of a Ray cluster; the demos come back to this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from lfm_policy.collect.episode import record_episode
from lfm_policy.collect.errors import CollectError
from lfm_policy.collect.options import CollectOptions
from lfm_policy.collect.stage import Stage, make_stage
from lfm_policy.collect.workers import MAXIMUM_CRASHES
from lfm_policy.data.robomimic_demos import Demo, DemoRecording
from lfm_policy.errors import InputError

_stage: tuple[CollectOptions, Stage] | None = None  # of a worker's process


class RayWorkers:
    """Runs attempts on a Ray cluster, with the interface of `Workers`.

    Attributes:
        crashes: how often a worker or its machine was lost.
    """

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
        try:
            import ray
        except ImportError:
            raise InputError(
                "the runner 'ray' needs Ray, which is not installed: pip install 'lfm-policy[ray]'"
            ) from None
        self._ray = ray
        try:
            ray.init(
                address=address,
                num_cpus=None if address else number,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster at '{address}': {error}") from None
        self._number, self._options = number, options
        self._recording = DemoRecording(path, options.facts())
        self._task = ray.remote(num_cpus=1, max_retries=0)(_record)
        self._running: dict[Any, int] = {}
        self._crashed: Counter[int] = Counter()
        self.crashes = 0

    @property
    def running(self) -> set[int]:
        """Seeds of the attempts that are under way."""
        return set(self._running.values())

    @property
    def busy(self) -> bool:
        """Whether as many attempts as wanted are under way."""
        return len(self._running) >= self._number

    def submit(self, seed: int) -> None:
        """Start an attempt."""
        self._running[self._task.remote(self._options, seed)] = seed

    def collect(self, timeout: float) -> list[tuple[int, bool]]:
        """Return the attempts that have ended by now: seed and whether it succeeded.

        Args:
            timeout: how long to wait for the first, in seconds.

        Raises:
            CollectError: the worker of an episode was lost `MAXIMUM_CRASHES` times.
            InputError: a worker cannot make the environment.
        """
        errors = self._ray.exceptions
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        results = []
        for reference in ended:
            seed = self._running.pop(reference)
            try:
                demo = self._ray.get(reference)
            except errors.RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise InputError(str(error.cause)) from None
                raise
            except (
                errors.WorkerCrashedError,
                errors.NodeDiedError,
                errors.OutOfMemoryError,
                errors.ObjectLostError,
            ) as error:
                self._again(seed, error)
                continue
            if demo is None:
                self._recording.skip(seed, "no success")
            else:
                self._recording.add(seed, demo)
            results.append((seed, demo is not None))
        return results

    def close(self, *, now: bool = False) -> None:
        """Leave the cluster; with ``now``, end what is under way there."""
        if now:
            for reference in self._running:
                self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()

    def _again(self, seed: int, error: Exception) -> None:
        self.crashes += 1
        self._crashed[seed] += 1
        if self._crashed[seed] >= MAXIMUM_CRASHES:
            raise CollectError(
                f"the worker that recorded the episode of seed {seed} was lost {MAXIMUM_CRASHES} "
                f"times, the last time with: {error}; what is recorded is kept, and the same "
                "command goes on from there"
            ) from None
        self.submit(seed)


def _record(options: CollectOptions, seed: int) -> Demo | None:
    global _stage
    if _stage is None or _stage[0] != options:
        if _stage is not None:
            _stage[1].close()
        _stage = (options, make_stage(options))
    return record_episode(_stage[1], options, seed)
