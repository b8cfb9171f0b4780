"""Which task each episode of a LeRobot dataset shows: ``task_index``, and its table of names."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from lfm_policy.data.lerobot.episodes import Episode
from lfm_policy.data.lerobot.files import DatasetFolder
from lfm_policy.data.lerobot.info import DatasetInfo
from lfm_policy.data.lerobot.rows import read_rows
from lfm_policy.data.lerobot.tables import Column, open_parquet, read_columns
from lfm_policy.data.tasks.choice import TaskChoice, choose_tasks, names_no_task
from lfm_policy.errors import InputError, brief
from lfm_runtime.disk.files import is_file

TASK_INDEX = "task_index"
_MAXIMUM_BYTES = 64 * 2**20
_MAXIMUM_TASKS = 100_000
_INT64 = np.dtype(np.int64)
_TABLE, _LINES = "meta/tasks.parquet", "meta/tasks.jsonl"


def chosen(
    wanted: Sequence[str], folder: DatasetFolder, info: DatasetInfo, episodes: Sequence[Episode]
) -> TaskChoice:
    """Return the episodes of the tasks that are wanted.

    An episode shows the task of its first step. A task without a name in the table is called by its
    number.

    Args:
        wanted: the option ``dataset.tasks``.
        folder: of the dataset; files that are missing are fetched.
        info: of the dataset.
        episodes: all of them.

    Raises:
        InputError: there is no column ``task_index``, the table is damaged, or a task that is
            wanted has no episode.
    """
    if TASK_INDEX not in info.features:
        raise names_no_task(str(info.root), f"there is no feature '{TASK_INDEX}'")
    folder.fetch([*dict.fromkeys(e.data for e in episodes), info.root / _TABLE, info.root / _LINES])
    feature = info.feature(TASK_INDEX)
    rows = read_rows(info, episodes, [feature])
    numbers = rows.arrays[TASK_INDEX].reshape(rows.ends[-1], -1)[:, 0]
    names = _names(info)
    starts = [0, *rows.ends[:-1].tolist()]
    tasks = [names.get(n := int(numbers[start]), str(n)) for start in starts]
    return choose_tasks(wanted, tasks, str(info.root), [names[n] for n in sorted(names)])


def _names(info: DatasetInfo) -> dict[int, str]:
    """Return the names of tasks by number; empty where there is no table."""
    table, lines = info.root / _TABLE, info.root / _LINES
    if is_file(table):
        with open_parquet(table) as file:
            n_rows = file.metadata.num_rows
            if n_rows > _MAXIMUM_TASKS:
                raise InputError(
                    f"{table}: holds {n_rows} tasks, expected at most {_MAXIMUM_TASKS}"
                )
            numbers = read_columns(file, table, {TASK_INDEX: Column(_INT64)}, n_rows)[TASK_INDEX]
            # The index of a pandas table, which may have lost its name.
            column = "task" if "task" in file.schema_arrow.names else "__index_level_0__"
            if column not in file.schema_arrow.names:
                raise InputError(f"{table}: there is no column 'task'")
            texts = file.read(columns=[column]).column(0).to_pylist()
        named = zip(numbers[:, 0], texts, strict=True)
        return {int(n): str(text) for n, text in named if text is not None}
    if not is_file(lines):
        return {}
    if lines.stat().st_size > _MAXIMUM_BYTES:
        raise InputError(f"{lines}: is larger than {_MAXIMUM_BYTES} bytes")
    names = {}
    # Not splitlines: a text may hold other ends of lines than JSON Lines have.
    for number, line in enumerate(lines.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            names[int(entry[TASK_INDEX])] = str(entry["task"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{lines}: line {number}: expected an object with {TASK_INDEX} and task "
                f"({brief(error)})"
            ) from None
    return names
