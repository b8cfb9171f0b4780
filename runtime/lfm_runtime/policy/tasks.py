"""Tasks by name: which of several a policy is to do, as the observation ``task``.

It is one-hot, in the order of `DataSpec.tasks`. Whoever observes may give the name or the number of
the task in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import TASK_KEY, DataSpec
from lfm_runtime.registry import nearest_names


def task_number(tasks: Sequence[str], task: str | int | np.integer) -> int:
    """Return the number of a task, given as name or as number.

    Raises:
        InputError: there is no such task; the message lists close names.
    """
    if isinstance(task, (bool, np.bool_)) or not isinstance(task, (str, int, np.integer)):
        raise InputError(f"a task is {type(task).__name__}, expected its name or its number")
    if isinstance(task, str):
        if task in tasks:
            return list(tasks).index(task)
        if not task.isdecimal() or len(task) > 6:
            raise InputError(f"there is no task '{task:.100}': {nearest_names(task, tuple(tasks))}")
    number = int(task)
    if not 0 <= number < len(tasks):
        raise InputError(f"task is {number}, expected 0 to {len(tasks) - 1}, or a name")
    return number


def one_hot(tasks: Sequence[str], task: str | int | np.integer) -> np.ndarray:
    """Return the observation of a task, (number of tasks,) float32.

    Raises:
        InputError: as `task_number`.
    """
    observed = np.zeros(len(tasks), dtype=np.float32)
    observed[task_number(tasks, task)] = 1
    return observed


def task_name(spec: DataSpec, task: str | int | None) -> str | None:
    """Return the name of a task of a policy; None for None.

    Raises:
        InputError: as `task_number`; or the policy is not told its task.
    """
    if task is None:
        return None
    if not spec.tasks:
        raise InputError(
            f"task is {task!r:.100}, but the policy is not told its task: it was trained without "
            "dataset.tasks"
        )
    return spec.tasks[task_number(spec.tasks, task)]


def told(
    obs: Mapping[str, Any], spec: DataSpec, task: str | int | None = None
) -> Mapping[str, Any]:
    """Return one frame in which the task is one-hot.

    Args:
        obs: observations by name; under ``task`` a name, a number, or the observation itself.
        spec: of the policy; one without tasks changes nothing.
        task: which one, where the observations do not say it.

    Raises:
        InputError: there is no such task, or nobody says which one.
    """
    if not spec.tasks or not isinstance(obs, Mapping):
        return obs
    given = obs.get(TASK_KEY, task)
    if given is None:
        raise unsaid_task(spec)
    if isinstance(given, np.ndarray) and given.ndim == 0:
        given = given.item()
    if isinstance(given, (str, int, np.integer)):
        given = one_hot(spec.tasks, given)
    return {**obs, TASK_KEY: given}


def unsaid_task(spec: DataSpec) -> InputError:
    """Return the error where nothing says which of a policy's tasks is to be done."""
    return InputError(
        f"nothing says which task is to be done: set policy.task (--task NAME), or give "
        f"obs['{TASK_KEY}'], one of {', '.join(spec.tasks)}"
    )


def told_batch(
    batch: Mapping[str, Any], spec: DataSpec, task: str | int | None, n_obs_steps: int
) -> Mapping[str, Any]:
    """Return a batch in which tasks are one-hot, (B, n_obs_steps, number of tasks).

    Args:
        batch: observations by name; under ``task`` the name or number of the task of every row, of
            all rows, or the observation itself.
        spec: of the policy; one without tasks changes nothing.
        task: that of all rows, where the batch does not say it.
        n_obs_steps: frames of a history.

    Raises:
        InputError: there is no such task.
    """
    given = batch.get(TASK_KEY, task) if spec.tasks and isinstance(batch, Mapping) else None
    if given is None:
        return batch
    if isinstance(given, (str, int, np.integer)):
        others = [key for key in spec.obs_shapes if key != TASK_KEY and key in batch]
        given = [given] * (len(batch[others[0]]) if others else 1)
    if isinstance(given, (list, tuple)) and all(isinstance(t, (str, int)) for t in given):
        rows = np.stack([one_hot(spec.tasks, one) for one in given])
        given = np.repeat(rows[:, None], n_obs_steps, axis=1)
    return {**batch, TASK_KEY: given}
