"""An exported policy refuses what the policy it was made of refuses, in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.policy import Policy
from lfm_runtime import InputError, OnnxPolicy

from .conftest import random_batch


@pytest.fixture
def policies(exported: tuple[Policy, Path]) -> tuple[Policy, OnnxPolicy]:
    policy, folder = exported
    policy.reset()
    policy.sample_seed(0)
    return policy, OnnxPolicy(folder)


BATCHES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "missing": lambda batch: batch.pop("pose"),
    "shape": lambda batch: batch.update(pose=batch["pose"][:, :1]),
    "rows": lambda batch: batch.update(pose=batch["pose"][:1]),
    "NaN": lambda batch: batch["pose"].__setitem__((0, 0, 0), np.nan),
    "too large": lambda batch: batch.update(pose=np.full((2, 2, 4), 1e300)),
    "text": lambda batch: batch.update(pose="pose"),
    "ragged": lambda batch: batch.update(pose=[[1], [2, 3]]),
}


@pytest.mark.parametrize("change", BATCHES.values(), ids=list(BATCHES))
def test_bad_batches(
    policies: tuple[Policy, OnnxPolicy], change: Callable[[dict[str, Any]], Any]
) -> None:
    messages = []
    for policy in policies:
        batch: dict[str, Any] = random_batch(policies[0], 2)
        change(batch)
        with pytest.raises(InputError) as error:
            policy.predict_action_chunk(batch)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_bad_noise(policies: tuple[Policy, OnnxPolicy]) -> None:
    with pytest.raises(InputError, match=r"noise has shape \(1, 6, 3\), expected \(2, 6, 3\)"):
        policies[1].predict_action_chunk(random_batch(policies[0], 2), noise=np.zeros((1, 6, 3)))


def test_prefixes_are_refused_without_training(policies: tuple[Policy, OnnxPolicy]) -> None:
    batch = random_batch(policies[0], 1)
    for policy in policies:
        with pytest.raises(InputError, match="prefix has 1 actions, but the policy was trained"):
            policy.predict_action_chunk(batch, prefix=np.zeros((1, 1, 3)))


def test_a_bad_frame_is_refused_at_once_and_forgotten(
    policies: tuple[Policy, OnnxPolicy],
) -> None:
    runs = []
    for policy in policies:
        policy.sample_seed(4)
        actions = [policy.select_action(policy.fake_obs(0))]
        with pytest.raises(InputError, match="observation 'pose' contains NaN"):
            policy.select_action({**policy.fake_obs(1), "pose": np.full(4, np.nan)})
        actions += [policy.select_action(policy.fake_obs(step)) for step in (1, 2, 3)]
        runs.append(actions)
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4, atol=1e-2)


def test_ranges_in_training(policies: tuple[Policy, OnnxPolicy]) -> None:
    policy, exported = policies
    names = [key for key in exported.fake_obs() if key in exported.description.ranges]
    assert names
    for key in names:
        np.testing.assert_array_equal(exported.training_range(key), policy.training_range(key))
    for one in policies:
        with pytest.raises(InputError, match=f"for 'nothing'; it knows.*: {names[0]}"):
            one.training_range("nothing")


def test_noise_without_a_seed_differs_every_time(policies: tuple[Policy, OnnxPolicy]) -> None:
    _, exported = policies
    batch = random_batch(policies[0], 1)
    exported.sample_seed(None)
    first, second = (exported.predict_action_chunk(batch) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_an_action_that_is_not_finite_never_reaches_a_robot(
    policies: tuple[Policy, OnnxPolicy],
) -> None:
    _, exported = policies
    noise = np.full((1, 6, 3), 3e38, np.float32)
    with pytest.raises(FloatingPointError, match="not finite"):
        exported.predict_action_chunk(random_batch(policies[0], 1), noise=noise)
