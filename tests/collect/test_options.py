from __future__ import annotations

from typing import Any

import pytest
from lfm_envs.metaworld.tasks import MT50

from lfm_policy.cli.data.collect import _TASKS
from lfm_policy.collect import EXPERTS, CollectOptions
from lfm_policy.collect.experts import GROUPS
from lfm_policy.errors import InputError


@pytest.mark.parametrize("task", EXPERTS.names())
def test_every_task_can_be_asked_for(task: str) -> None:
    assert CollectOptions(task).seed_start == 300_000


def test_experts_and_tasks_agree() -> None:
    experts = pytest.importorskip("lfm_envs.experts")
    own = {*experts.EXPERTS, "PushT"}
    assert set(EXPERTS) == own | set(MT50)
    assert set(_TASKS) == own | set(GROUPS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "lift"}, "'lift'.*Lift"),
        ({"episodes": 0}, "episodes is 0"),
        ({"seed": -1}, "negative"),
        ({"seed_start": 2**32 - 10}, "seed_start"),
        ({"image_size": 4}, "image_size is 4"),
    ],
)
def test_bad_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CollectOptions(**{"task": "Lift"} | changes)


def test_facts_are_what_single_demos_depend_on() -> None:
    few, many = CollectOptions("Lift", episodes=2), CollectOptions("Lift", episodes=5)
    assert few.facts() == many.facts()
    assert few.facts() != CollectOptions("Lift", seed=1).facts()
