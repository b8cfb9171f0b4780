"""A policy of several tasks behind a server: who says which one is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lfm_policy.serving import served_policy
from lfm_runtime import PolicyServerError
from lfm_runtime.errors import InputError
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.wire.client import WebsocketClientPolicy

WAIT = 20.0
STATE = {"state": np.zeros(1, np.float32)}


class Doing(ChunkPolicy):
    """Its actions are the number of the task that it was told."""

    def __init__(self, tasks: tuple[str, ...] = ("pick", "place"), n_obs_steps: int = 1) -> None:
        shapes = {"state": (1,), "task": (len(tasks),)}
        spec = DataSpec(shapes, 1, tasks=tasks)
        super().__init__(spec, n_obs_steps=n_obs_steps, horizon=4, n_action_steps=3)

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: Any = None, prefix: Any = None
    ) -> np.ndarray:
        number = np.argmax(batch["task"][:, -1], axis=-1)
        chunk = np.repeat(number[:, None, None], self.horizon, axis=1)
        return np.asarray(self._executed(chunk), np.float32)

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.spec.obs_shapes[key]), np.ones(self.spec.obs_shapes[key])


def serving(start: Any, task: str | None = None, **options: Any) -> Any:
    policy = Doing()
    policy.task = task
    return start(policy, **options)


def test_what_the_server_says_where_nobody_else_does(start: Any) -> None:
    with WebsocketClientPolicy(port=serving(start, "place").port, wait=WAIT) as client:
        assert client.task == "place"
        assert client.infer(STATE)["actions"][0, 0] == 1
        assert client.select_action(STATE)[0] == 1
        batch = {"state": np.zeros((1, 1, 1), np.float32)}
        assert client.predict_action_chunk(batch)[0, 0, 0] == 1
        client.reset()
        client.task = "pick"
        assert client.select_action(STATE)[0] == client.infer(STATE)["actions"][0, 0] == 0
        assert client.infer({**STATE, "prompt": "place"})["actions"][0, 0] == 1


@pytest.mark.parametrize("task", ["place", 1, np.int64(1), np.array(1), np.array("place")])
def test_a_task_in_every_way_that_a_policy_takes_it(start: Any, task: Any) -> None:
    with WebsocketClientPolicy(port=serving(start).port, wait=WAIT) as client:
        assert client.task is None
        assert client.infer({**STATE, "task": task})["actions"][0, 0] == 1
        assert client.select_action({**STATE, "task": task})[0] == 1


def test_who_names_no_task_is_told_how(start: Any) -> None:
    with WebsocketClientPolicy(port=serving(start).port, wait=WAIT) as client:
        message = r"\['task'\] are missing.*: send the name of the task \(pick, place\) as"
        with pytest.raises(PolicyServerError, match=message):
            client.infer(STATE)


def test_what_was_chosen_outlives_another_server(start: Any) -> None:
    first = serving(start)
    with WebsocketClientPolicy(port=first.port, wait=WAIT) as client:
        client.task, client.n_action_steps = "place", 2
        client.sample_seed(np.int64(3), np.int64(4))
        first.stop()
        serving(start, port=first.port)
        assert client.accept_policy() == []
        assert (client.task, client.n_action_steps) == ("place", 2)
        assert client.select_action(STATE)[0] == 1  # also with a seed of numpy's
        with pytest.raises(InputError, match="expected 1 to 3"):
            client.n_action_steps = 4


def test_a_task_that_the_next_policy_does_not_know_is_forgotten(start: Any) -> None:
    first = serving(start)
    with WebsocketClientPolicy(port=first.port, wait=WAIT) as client:
        client.task = "place"
        first.stop()
        start(Doing(("pick", "pour")), port=first.port)
        assert client.accept_policy() and client.task is None


def test_a_server_that_comes_back_may_say_another_task(start: Any) -> None:
    first = serving(start, "pick")
    with WebsocketClientPolicy(port=first.port, wait=WAIT) as client:
        assert client.infer(STATE)["actions"][0, 0] == 0
        first.stop()
        second = serving(start, "place", port=first.port)
        assert client.infer(STATE)["actions"][0, 0] == 1 and client.task == "place"
        client.task = "pick"  # what was chosen here stays
        second.stop()
        third = serving(start, "place", port=first.port)
        assert client.infer(STATE)["actions"][0, 0] == 0 and client.task == "pick"
        assert client.accept_policy() == [] and client.task == "pick"
        client.task = "place"
        third.stop()
        serving(start, port=first.port)
        assert client.accept_policy() == [] and client.task is None


def test_the_metadata_say_the_task() -> None:
    policy = Doing()
    assert "task" not in served_policy(policy).metadata()
    policy.task = 1
    assert served_policy(policy).metadata()["task"] == "place"
