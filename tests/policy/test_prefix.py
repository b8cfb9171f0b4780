"""Chunks that continue actions a robot is committed to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import config_from_dict
from lfm_policy.errors import InputError
from lfm_policy.policy import DataSpec, Policy
from lfm_policy.policy.prefix import PrefixCondition, with_prefix

from .conftest import ACTION_DIM, OBS_SHAPES, random_model, random_normalizer, small_options


def make_policy(max_prefix: int = 3, **sections: Any) -> Policy:
    options = small_options(**sections)
    options["policy"] = {**options["policy"], "max_prefix": max_prefix}
    config = config_from_dict(options, "test")
    spec = DataSpec(OBS_SHAPES, ACTION_DIM)
    return Policy(config, spec, random_model(config, spec), random_normalizer(spec))


def batch_of(policy: Policy, n_rows: int = 2) -> dict[str, np.ndarray]:
    frames = [policy.fake_obs(seed) for seed in range(n_rows)]
    return {key: np.stack([[frame[key]] * 2 for frame in frames]) for key in frames[0]}


def test_features_are_the_masked_actions_and_the_mask() -> None:
    condition = PrefixCondition(max_prefix=2, first=1, action_dim=2)
    chunks = torch.arange(1.0, 11.0).reshape(1, 5, 2)
    features = condition.of_chunks(chunks.repeat(3, 1, 1), torch.tensor([0, 1, 2]))
    assert condition.size == features.shape[1] == 6
    expected = [[0, 0, 0, 0, 0, 0], [3, 4, 0, 0, 1, 0], [3, 4, 5, 6, 1, 1]]
    torch.testing.assert_close(features, torch.tensor(expected, dtype=torch.float32))


def test_only_the_given_actions_are_put_into_a_chunk() -> None:
    condition = PrefixCondition(max_prefix=2, first=1, action_dim=1)
    chunks = torch.arange(5.0).reshape(1, 5, 1)
    mask = torch.tensor([[1.0, 0.0]])
    put = condition.put(chunks, torch.tensor([[[9.0], [8.0]]]), mask)
    assert put.flatten().tolist() == [0, 9, 2, 3, 4]


def test_without_either_part_the_condition_is_the_other() -> None:
    part = torch.ones(2, 3)
    assert with_prefix(None, None) is None
    assert with_prefix(part, None) is part
    assert with_prefix(None, part) is part
    both = with_prefix(part, part)
    assert both is not None and both.shape == (2, 6)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_the_chunk_begins_with_exactly_the_prefix(length: int) -> None:
    policy = make_policy()
    prefix = np.random.default_rng(0).uniform(-1e3, 1e3, (2, length, 3)).astype(np.float32)
    noise = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    whole = policy.sample(batch_of(policy), noise=noise, prefix=prefix).chunk
    np.testing.assert_array_equal(whole[:, 1 : 1 + length].numpy(), prefix)
    executed = policy.predict_action_chunk(batch_of(policy), noise=noise, prefix=prefix)
    assert torch.equal(executed, whole[:, 1:4])


def test_what_follows_depends_on_the_prefix() -> None:
    policy = make_policy()
    noise = torch.zeros(2, 6, 3)
    first, second = (
        policy.sample(batch_of(policy), noise=noise, prefix=np.full((2, 2, 3), value)).chunk
        for value in (150.0, 350.0)
    )
    assert not torch.equal(first[:, 3:], second[:, 3:])


def test_an_empty_prefix_and_none_are_the_same() -> None:
    policy = make_policy()
    noise = torch.randn(2, 6, 3)
    with_empty = policy.sample(batch_of(policy), noise=noise, prefix=np.zeros((2, 0, 3))).chunk
    assert torch.equal(policy.sample(batch_of(policy), noise=noise).chunk, with_empty)


def test_select_action_works_without_prefixes() -> None:
    policy = make_policy()
    policy.reset()
    assert policy.select_action(policy.fake_obs()).shape == (3,)


def test_policies_without_prefixes_take_none() -> None:
    policy = make_policy(max_prefix=0)
    assert policy.model.prefix is None
    assert policy.max_prefix == 0
    with pytest.raises(InputError, match="trained with at most 0"):
        policy.sample(batch_of(policy), prefix=np.zeros((2, 1, 3)))


def test_encode_is_the_condition_without_a_prefix() -> None:
    policy = make_policy()
    cond = policy.encode(batch_of(policy))
    assert cond is not None and policy.model.prefix is not None
    assert not cond[:, -policy.model.prefix.size :].any()


@pytest.mark.parametrize(("max_prefix", "fine"), [(4, True), (5, False)])
def test_at_least_one_action_is_the_policys_own(max_prefix: int, fine: bool) -> None:
    if fine:
        assert make_policy(max_prefix).max_prefix == max_prefix
        return
    with pytest.raises(InputError, match=r"policy.max_prefix is 5, expected less than .* = 5"):
        make_policy(max_prefix)
