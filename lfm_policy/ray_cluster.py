"""A Ray cluster: joining it, and tasks that are done again when their worker is lost.

Ray sends Python objects between its machines, so a cluster must be one that is trusted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from lfm_policy.errors import InputError
from lfm_runtime.plugins import INHERITED

MAXIMUM_LOSSES = 3
"""Times that the worker of one task may be lost before it is given up."""


class WorkerLostError(Exception):
    """The worker of a task, or its machine, was lost `MAXIMUM_LOSSES` times.

    Attributes:
        key: of the task.
    """

    def __init__(self, key: Any, message: str) -> None:
        super().__init__(message)
        self.key = key


class RayPool:
    """Calls of one function on a cluster, each by a key, whose results come as they end.

    Attributes:
        losses: how often a worker was lost, over all tasks.
    """

    def __init__(
        self, function: Callable[..., Any], *, address: str | None, cpus: int | None
    ) -> None:
        """Join a cluster, or start a local one.

        Args:
            function: of a module that every machine of the cluster has.
            address: of a running cluster (``auto``, ``host:port``); a local one when None.
            cpus: of the local cluster; all of them when None.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
        """
        self._ray = _connect(address, cpus=cpus)
        # Ray's own retries would count a lost worker and an error in the task alike.
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(function)
        self._running: dict[Any, tuple[Hashable, tuple[Any, ...]]] = {}
        self._lost: Counter[Hashable] = Counter()
        self.losses = 0

    @property
    def running(self) -> list[Any]:
        """Keys of the tasks that have not ended."""
        return [key for key, _ in self._running.values()]

    def put(self, value: Any) -> Any:
        """Return a reference to a value that many tasks take, so that it is sent once."""
        return self._ray.put(value)

    def submit(self, key: Hashable, *arguments: Any) -> None:
        """Start a task."""
        self._running[self._task.remote(*arguments)] = (key, arguments)

    def ended(self, timeout: float | None = None) -> list[tuple[Any, Any, int]]:
        """Wait for the next task: key, result and how often it was lost before; empty if none ends.

        A task whose worker was lost is started again.

        Args:
            timeout: how long to wait, in seconds; None: until one has ended.

        Raises:
            InputError: the task raised one.
            WorkerLostError: its worker was lost `MAXIMUM_LOSSES` times.
            Exception: whatever else the task raised.
        """
        errors = self._ray.exceptions
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        results = []
        for reference in ready:
            key, arguments = self._running.pop(reference)
            try:
                result = self._ray.get(reference)
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
                self.losses += 1
                self._lost[key] += 1
                if self._lost[key] >= MAXIMUM_LOSSES:
                    raise WorkerLostError(key, str(error)) from error
                self.submit(key, *arguments)
                continue
            results.append((key, result, self._lost.pop(key, 0)))
        return results

    def close(self, *, now: bool = False) -> None:
        """Leave the cluster, and stop a local one; with ``now``, end what is under way there."""
        if now:
            for reference in self._running:
                self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


def _connect(address: str | None, *, cpus: int | None) -> Any:
    """Return the module ``ray`` after joining a cluster, see `RayPool`."""
    try:
        import ray
    except ImportError:
        raise InputError(
            "the runner 'ray' needs Ray, which is not installed: pip install '.[ray]' in the "
            "folder of the package"
        ) from None
    # Workers load the plugins of this process when they need them.
    variables = {name: os.environ[name] for name in (INHERITED,) if name in os.environ}
    try:
        ray.init(
            address=address,
            num_cpus=None if address else cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": variables} if variables else None,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at '{address}': {error}") from None
    return ray
