"""A task by its name, its number, or as the observation itself."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.policy.tasks import one_hot, task_name, task_number, told, told_batch

TASKS = ("reach", "push", "open the door")
SPEC = DataSpec({"joints": (2,), "task": (3,)}, 2, tasks=TASKS)
JOINTS = np.zeros(2, np.float32)


@pytest.mark.parametrize("task", ["push", 1, np.int64(1), "1"])
def test_a_task_has_a_name_and_a_number(task: str | int) -> None:
    assert task_number(TASKS, task) == 1
    np.testing.assert_array_equal(one_hot(TASKS, task), [0, 1, 0])
    assert task_name(SPEC, task) == "push"


def test_a_name_that_looks_like_a_number_is_a_name() -> None:
    assert task_number(("7", "0"), "0") == 1


@pytest.mark.parametrize(
    ("task", "match"),
    [
        ("puhs", "no task 'puhs': did you mean 'push'"),
        (3, "task is 3, expected 0 to 2"),
        (-1, "expected 0 to 2"),
        (True, "bool, expected its name"),
        (1.0, "float, expected its name"),
    ],
)
def test_an_unknown_task_is_one_error(task: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        task_number(TASKS, task)  # type: ignore[arg-type]


def test_a_frame_may_say_its_task_in_every_way() -> None:
    for said in ("push", 1, np.array(1), np.array("push"), np.array([0, 1, 0], np.float32)):
        frame = told({"joints": JOINTS, "task": said}, SPEC)
        np.testing.assert_array_equal(frame["task"], [0, 1, 0])
    np.testing.assert_array_equal(told({"joints": JOINTS}, SPEC, "push")["task"], [0, 1, 0])
    # What the observation says counts before what was set.
    said = told({"joints": JOINTS, "task": "reach"}, SPEC, "push")["task"]
    np.testing.assert_array_equal(said, [1, 0, 0])


def test_who_says_no_task_is_told_which_there_are() -> None:
    with pytest.raises(InputError, match="nothing says which task .* reach, push, open the door"):
        told({"joints": JOINTS}, SPEC)


def test_a_policy_without_tasks_changes_nothing() -> None:
    spec = DataSpec({"task": (1,)}, 2)
    obs = {"task": 3.0}
    assert told(obs, spec) is obs
    assert task_name(spec, None) is None
    with pytest.raises(InputError, match="trained without dataset.tasks"):
        task_name(spec, "reach")


def test_rows_of_a_batch_have_tasks_of_their_own() -> None:
    joints = np.zeros((2, 4, 2), np.float32)
    batch = told_batch({"joints": joints, "task": ["push", "reach"]}, SPEC, None, 4)
    assert batch["task"].shape == (2, 4, 3)
    np.testing.assert_array_equal(batch["task"].argmax(-1), [[1] * 4, [0] * 4])
    alike = told_batch({"joints": joints}, SPEC, "open the door", 4)
    np.testing.assert_array_equal(alike["task"].argmax(-1), 2)


def test_tasks_are_kept_in_files() -> None:
    assert DataSpec.from_dict(SPEC.to_dict(), "file") == SPEC
    assert "tasks" not in DataSpec({"a": (1,)}, 2).to_dict()
    for bad in (["reach"], ["a", "a", "b"], ["a", "", "b"], "abc", [1, 2, 3]):
        with pytest.raises(InputError, match=r"file: data\.tasks: expected different names"):
            DataSpec.from_dict(SPEC.to_dict() | {"tasks": bad}, "file")
