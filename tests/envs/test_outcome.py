"""What environments say of rewards and success, whatever else their information holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from lfm_envs import (
    FAULT_KEY,
    FreezeAfterEnd,
    FreezingSyncVectorEnv,
    OutcomeError,
    PlainOutcome,
    StepOutcome,
    success_of,
)

YES = [True, np.True_, 1, 1.0, np.float32(1), np.array([True]), np.array([[1]])]
NO = [False, np.False_, 0, 0.0, np.array(0), np.array([False]), np.zeros((1, 1))]
NEITHER = ["yes", b"1", "", np.array([True, False]), [], object(), float("nan"), np.array([])]


def spoken(value: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return information that says ``value`` in one of the ways there are."""
    return st.sampled_from(
        [
            {"success": value},
            {"is_success": value},
            {"success": None, "is_success": value},
            {"is_success": {"task": value}},
            {"final_info": {"success": value}},
            {"final_info": {"is_success": value}, "success": not value},
        ]
    )


others = st.dictionaries(
    st.text(max_size=6).map("x".__add__),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.lists(st.integers()),
        lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    )
    | st.integers(0, 3).map(lambda n: np.zeros((n, 2))),
    max_size=4,
)


@pytest.mark.parametrize("value", YES)
def test_yes(value: Any) -> None:
    assert success_of({"success": value}) is True
    assert success_of({"is_success": {"task": value}}) is True


@pytest.mark.parametrize("value", NO)
def test_no(value: Any) -> None:
    assert success_of({"is_success": value}) is False
    assert success_of({"success": value, "is_success": True}) is False


@pytest.mark.parametrize("value", NEITHER)
def test_neither_is_an_error(value: Any) -> None:
    with pytest.raises(OutcomeError, match=r"info\['is_success'\] is .*, expected true or false"):
        success_of({"is_success": value})


def test_tensors() -> None:
    assert success_of({"success": torch.tensor([True])}) is True
    assert success_of({"success": torch.tensor(0.0)}) is False
    with pytest.raises(OutcomeError, match="expected true or false"):
        success_of({"success": torch.tensor([True, False])})


@pytest.mark.parametrize(
    "info", [{}, None, {"success": None}, {"final_info": None}, {"is_success": {"other": True}}]
)
def test_nothing_is_said(info: Any) -> None:
    assert success_of(info) is None
    assert StepOutcome.of(0.5, info) == StepOutcome(0.5, None, None)


@pytest.mark.parametrize(
    "reward", [None, "1", b"1", np.nan, -np.inf, np.array([np.nan]), np.zeros(2), [], {}, 1j]
)
def test_rewards_that_are_no_finite_numbers(reward: Any) -> None:
    with pytest.raises(OutcomeError, match=r"the reward is .*, expected a finite number"):
        StepOutcome.of(reward, {})


@pytest.mark.parametrize("reward", [2, 2.0, np.float32(2), np.array([2]), torch.tensor([[2.0]])])
def test_rewards_that_are(reward: Any) -> None:
    assert StepOutcome.of(reward, {}).reward == 2.0
    assert StepOutcome.of(True, {}).reward == 1.0


def test_coverage() -> None:
    assert StepOutcome.of(0, {"coverage": np.float32(0.5)}).coverage == 0.5
    for other in (np.zeros((8, 8)), "most of it", None):
        assert StepOutcome.of(0, {"coverage": other}).coverage is None
    with pytest.raises(OutcomeError, match=r"info\['coverage'\] is nan"):
        StepOutcome.of(0, {"coverage": np.nan})
    with pytest.raises(OutcomeError, match=r"the information is \[\], expected a dictionary"):
        StepOutcome.of(0, [])


class Saying(gym.Env[Any, Any]):
    """Says one thing in every step, of which the second is the last."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, info: Any, reward: Any = 1.0) -> None:
        self.info, self.reward, self.count = info, reward, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.count = 0
        return np.zeros(1, np.float32), self.info

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.zeros(1, np.float32), self.reward, self.count == 2, False, self.info


def making(info: Any) -> Callable[[], gym.Env[Any, Any]]:
    return lambda: FreezeAfterEnd(PlainOutcome(Saying(info)))


@given(
    st.lists(
        st.sampled_from([True, False, None]).flatmap(
            lambda said: st.tuples(
                st.just(said), others, st.just({}) if said is None else spoken(said)
            )
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_else_environments_say_together(
    cases: list[tuple[bool | None, dict[str, Any], dict[str, Any]]],
) -> None:
    envs = FreezingSyncVectorEnv(
        [making({**other, **said}) for _, other, said in cases],
        autoreset_mode=AutoresetMode.DISABLED,
    )
    actions = np.zeros((len(cases), 1), np.float32)
    envs.reset(seed=0)
    for _ in range(3):
        *_, infos = envs.step(actions)
        for j, (expected, _, _) in enumerate(cases):
            found = infos["success"][j] if infos.get("_success", np.zeros(4))[j] else None
            assert found is None if expected is None else bool(found) is expected
        assert not {key.lstrip("_") for key in infos} - {"success"}


def test_a_step_may_be_a_list_and_nothing_else() -> None:
    class Listing(Saying):
        def step(self, action: Any) -> Any:
            return list(super().step(action))

    class Silent(Saying):
        def step(self, action: Any) -> Any:
            return None

    env = PlainOutcome(Listing({"success": True}))
    env.reset()
    assert env.step(None)[1:] == (1.0, False, False, {"success": True})
    env = PlainOutcome(Silent({}))
    env.reset()
    *_, said = env.step(None)
    assert said[FAULT_KEY].startswith("step() returned a NoneType, expected 5: observation, ")


@pytest.mark.parametrize(
    ("reward", "info", "fault"),
    [
        (np.nan, {"success": True}, "the reward is nan, expected a finite number"),
        (1.0, {"success": "maybe"}, "info['success'] is 'maybe', expected true or false"),
        (1.0, 3, "the information is 3, expected a dictionary"),
    ],
)
def test_what_cannot_be_counted_is_named(reward: Any, info: Any, fault: str) -> None:
    env = PlainOutcome(Saying(info, reward))
    env.reset()
    *_, said = env.step(None)
    assert said == {FAULT_KEY: fault}
