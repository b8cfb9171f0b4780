"""A Ray cluster: joining it, and the results of its tasks."""

from __future__ import annotations

import os
from typing import Any

from lfm_policy.errors import InputError
from lfm_runtime.plugins import INHERITED


class WorkerLostError(Exception):
    """The worker of a task, or its machine, was lost; the task may be done again."""


def connect(address: str | None, *, cpus: int | None) -> Any:
    """Join a cluster, or start a local one; returns the module ``ray``.

    Args:
        address: of a running cluster (``auto``, ``host:port``); a local one when None.
        cpus: of the local cluster; all of them when None.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "the runner 'ray' needs Ray, which is not installed: pip install 'lfm-policy[ray]'"
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


def result_of(ray: Any, reference: Any) -> Any:
    """Return what a task returned.

    Args:
        ray: the module.
        reference: of a task that has ended.

    Raises:
        InputError: the task raised one.
        WorkerLostError: its worker was lost.
        Exception: whatever else the task raised.
    """
    errors = ray.exceptions
    try:
        return ray.get(reference)
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
        raise WorkerLostError(str(error)) from error
