"""Record episodes as tasks of a Ray cluster; the demos come back to this machine."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.collect.attempts import MAXIMUM_CRASHES, Attempts, keep
from lfm_policy.collect.demonstrator import Demonstrator, make_demonstrator
from lfm_policy.collect.episode import record_episode
from lfm_policy.collect.options import CollectOptions
from lfm_policy.data.robomimic.demos import Demo, DemoRecording
from lfm_policy.errors import CollectError
from lfm_policy.ray_cluster import WorkerLostError, connect, result_of

_demonstrator: tuple[CollectOptions, Demonstrator] | None = None  # of a worker's process


class RayWorkers(Attempts):
    """Runs attempts on a Ray cluster."""

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
        super().__init__(number)
        self._ray = connect(address, cpus=number)
        self._options = options
        self._recording = DemoRecording(path, options.facts())
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(_record)

    def submit(self, seed: int) -> None:
        """Start an attempt."""
        self._running[self._task.remote(self._options, seed)] = seed

    def collect(self, timeout: float) -> list[tuple[int, bool]]:
        """Return the attempts that have ended by now; see `Attempts.collect`."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        results = []
        for reference in ended:
            seed = self._running.pop(reference)
            try:
                demo = result_of(self._ray, reference)
            except WorkerLostError as error:
                self._again(seed, error)
                continue
            results.append((seed, keep(self._recording, seed, demo)))
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
    global _demonstrator
    if _demonstrator is None or _demonstrator[0] != options:
        if _demonstrator is not None:
            _demonstrator[1].close()
        _demonstrator = (options, make_demonstrator(options))
    return record_episode(_demonstrator[1], options, seed)
