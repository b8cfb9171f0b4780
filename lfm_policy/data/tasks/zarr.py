"""Which task each episode of a zarr replay buffer shows: ``data/task_index`` or ``data/task``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lfm_policy.data.tasks.choice import TaskChoice, choose_tasks, names_no_task
from lfm_policy.data.zarr.store import TASK_INDEX, list_zarr, load_arrays, stored_tasks
from lfm_policy.errors import InputError

ARRAYS = (TASK_INDEX, "task")


def named_by(path: str | Path) -> str:
    """Return the array that says which of a store's named tasks a step shows; "" for none."""
    if not stored_tasks(path):
        return ""
    stored = list_zarr(path).readable
    return next((key for key in ARRAYS if key in stored), "")


def chosen(wanted: Sequence[str], path: str, starts: np.ndarray) -> TaskChoice:
    """Return the episodes of the tasks that are wanted.

    An episode shows the task of its first step. Names are the list ``tasks`` among the store's
    attributes; a task without one is called by its number. A recording of a policy of several tasks
    has what that observed, (steps, tasks), 1 for the task.

    Args:
        wanted: the option ``dataset.tasks``.
        path: of the store.
        starts: first step of every episode.

    Raises:
        InputError: there is no such array, it does not say one task of each step, or a task that
            is wanted has no episode.
    """
    stored = list_zarr(path).readable
    key = next((key for key in ARRAYS if key in stored), None)
    if key is None:
        raise names_no_task(path, f"there is neither data/{ARRAYS[0]} nor data/{ARRAYS[1]}")
    name = f"data/{key}"
    names = stored_tasks(path)
    numbers = load_arrays(path, [name])[name]
    if numbers.dtype.kind == "f" and numbers.shape[1:] == (len(names),) and _is_one_hot(numbers):
        numbers = numbers.argmax(1)
    if numbers.dtype.kind not in "iu" or numbers.size != len(numbers) or not len(numbers):
        raise InputError(
            f"{path}: {name} is {numbers.dtype} of shape {numbers.shape}; expected the number of a "
            "task for every step, integers (steps,) or (steps, 1), or (steps, tasks) of 0 and one 1"
            " with the names in the store's attribute tasks"
        )
    if starts[-1] >= len(numbers):
        raise InputError(f"{path}: {name} has {len(numbers)} rows, expected one for every step")
    tasks = [names[n] if 0 <= n < len(names) else str(n) for n in numbers.ravel()[starts].tolist()]
    return choose_tasks(wanted, tasks, path, names)


def _is_one_hot(values: np.ndarray) -> bool:
    """Whether each row (T, n) has a single 1 among zeros."""
    return bool(np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all())
