"""Which tasks are learned, and the observation that tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lfm_policy.data.dataset_config import ALL_TASKS
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import MAXIMUM_TASKS, TASK_KEY
from lfm_runtime.registry import nearest_names


class NoTasksError(InputError):
    """Data do not say which task an episode shows."""


@dataclass(frozen=True)
class TaskChoice:
    """The episodes that are learned, and what they show.

    Attributes:
        names: of the tasks, in the order of the observation.
        episodes: numbers of the episodes of these tasks, among all.
        tasks: of each of them, the number of its task.
    """

    names: tuple[str, ...]
    episodes: tuple[int, ...]
    tasks: tuple[int, ...]

    def shown(self) -> list[str]:
        """Return the task of each of the episodes."""
        return [self.names[number] for number in self.tasks]

    def first(self, count: int | None) -> TaskChoice:
        """Return the choice with its first ``count`` episodes only; all for None."""
        return replace(self, episodes=self.episodes[:count], tasks=self.tasks[:count])

    def told(self, buffer: ReplayBuffer) -> ReplayBuffer:
        """Return a buffer of exactly these episodes with the observation ``task``.

        Raises:
            InputError: something else is called so.
        """
        if TASK_KEY in buffer.arrays:
            raise InputError(
                f"{buffer.source}: an observation is called '{TASK_KEY}', as the one that "
                "dataset.tasks makes: leave it out of obs_keys, or rename it"
            )
        numbers = np.repeat(np.array(self.tasks, dtype=np.int64), buffer.episode_lengths)
        observed = np.zeros((buffer.n_steps, len(self.names)), dtype=np.float32)
        observed[np.arange(buffer.n_steps), numbers] = 1
        return replace(
            buffer,
            arrays={**buffer.arrays, TASK_KEY: observed},
            unscaled={**buffer.unscaled, TASK_KEY: tuple(range(len(self.names)))},
            tasks=self.names,
        )


def choose_tasks(
    wanted: Sequence[str], episodes: Sequence[str], source: str, known: Sequence[str] = ()
) -> TaskChoice:
    """Return which episodes are learned.

    Args:
        wanted: the option ``dataset.tasks``, not empty.
        episodes: the task of every episode.
        source: of the data, for messages.
        known: tasks in the order of the data; those without, in that of their first episodes.

    Raises:
        InputError: a task that is wanted has no episode, or is named twice; the message lists close
            names.
    """
    there = tuple(dict.fromkeys(episodes))
    names = tuple(wanted)
    if names == (ALL_TASKS,):
        listed = [name for name in known if name in there]
        names = tuple(dict.fromkeys([*listed, *there]))
    if len(names) > MAXIMUM_TASKS:
        raise InputError(f"{source}: has {len(names)} tasks, expected at most {MAXIMUM_TASKS}")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{source}: dataset.tasks names '{name:.100}' twice; expected once")
        if name not in there:
            raise InputError(
                f"{source}: dataset.tasks names '{name:.100}', of which there is no episode: "
                + nearest_names(name, there[:1000])
            )
    number = {name: index for index, name in enumerate(names)}
    chosen = [i for i, task in enumerate(episodes) if task in number]
    return TaskChoice(names, tuple(chosen), tuple(number[episodes[i]] for i in chosen))


def names_no_task(source: str, advice: str) -> NoTasksError:
    """Return the error for data that do not name tasks, with what to do about it."""
    return NoTasksError(
        f"{source}: dataset.tasks is given, but nothing says which task an episode shows: {advice}"
    )


def shown_tasks(buffer: ReplayBuffer) -> list[str]:
    """Return the task of every episode of a buffer that was `TaskChoice.told`."""
    numbers = buffer.arrays[TASK_KEY][buffer.episode_starts].argmax(1)
    return [buffer.tasks[number] for number in numbers.tolist()]


def untold(buffer: ReplayBuffer) -> ReplayBuffer:
    """Return the same episodes without the observation of their tasks; undoes `TaskChoice.told`."""
    if not buffer.tasks:
        return buffer
    arrays = {key: array for key, array in buffer.arrays.items() if key != TASK_KEY}
    unscaled = {key: kept for key, kept in buffer.unscaled.items() if key != TASK_KEY}
    return replace(buffer, arrays=arrays, unscaled=unscaled, tasks=())
