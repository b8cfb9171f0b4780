"""Which episodes are learned, and the observation that says what they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tasks.choice import choose_tasks
from lfm_policy.errors import InputError

EPISODES = ["push", "reach", "push", "open", "reach"]


def buffer_of(lengths: list[int], key: str = "state") -> ReplayBuffer:
    ends = np.cumsum(lengths, dtype=np.int64)
    values = np.arange(ends[-1], dtype=np.float32)[:, None]
    return ReplayBuffer({"action": values, key: values}, ends)


def test_all_tasks_come_in_the_order_of_the_data_or_of_its_table() -> None:
    assert choose_tasks(["*"], EPISODES, "x").names == ("push", "reach", "open")
    known = ["reach", "nothing", "open", "push"]
    assert choose_tasks(["*"], EPISODES, "x", known).names == ("reach", "open", "push")
    # Those that the table lacks are tasks too, and a name of two of its numbers is one task.
    choice = choose_tasks(["*"], EPISODES, "x", ["open", "reach", "open"])
    assert choice.names == ("open", "reach", "push")
    assert choice.shown() == EPISODES


def test_named_tasks_leave_the_others_out_and_number_themselves() -> None:
    choice = choose_tasks(["reach", "push"], EPISODES, "x")
    assert choice.episodes == (0, 1, 2, 4)
    assert choice.tasks == (1, 0, 1, 0)
    assert choice.first(2).episodes == (0, 1)


def test_an_unknown_task_is_one_error_that_lists_close_names() -> None:
    with pytest.raises(
        InputError, match=r"demos: dataset\.tasks names 'puhs'.*did you mean 'push'"
    ):
        choose_tasks(["reach", "puhs"], EPISODES, "demos")


def test_a_task_cannot_be_named_twice() -> None:
    with pytest.raises(InputError, match=r"demos: dataset\.tasks names 'push' twice"):
        choose_tasks(["push", "reach", "push"], EPISODES, "demos")


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=8))
def test_every_step_is_told_its_task(episodes: list[tuple[int, int]]) -> None:
    names = [f"task {number}" for _, number in episodes]
    buffer = buffer_of([length for length, _ in episodes])
    told = choose_tasks(["*"], names, "x").told(buffer)
    told.validate()
    observed = told.arrays["task"]
    assert observed.shape == (buffer.n_steps, len(set(names)))
    assert told.tasks == tuple(dict.fromkeys(names))
    expected = [
        name for (length, _), name in zip(episodes, names, strict=True) for _ in range(length)
    ]
    assert [told.tasks[row.argmax()] for row in observed] == expected
    np.testing.assert_array_equal(np.sort(observed)[:, -1], 1)
    np.testing.assert_array_equal(observed.sum(1), 1)


def test_another_observation_cannot_be_called_so() -> None:
    with pytest.raises(InputError, match="an observation is called 'task'"):
        choose_tasks(["*"], ["a"], "x").told(buffer_of([3], key="task"))
