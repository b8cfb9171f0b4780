"""Noise that chunks are given back between blocks: set, kept, and the same wherever it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.policy import Policy, load_policy

from .conftest import training_summary

MakePolicy = Callable[..., Policy]
TWO_BLOCKS = {"flow": {"n_blocks": 2, "c": 0.2}}


def test_a_chunk_is_given_noise_before_the_block_at_the_data(make_policy: MakePolicy) -> None:
    policy = make_policy(**TWO_BLOCKS)
    batch, noise = policy.fake_batch(3), torch.randn(3, *policy.chunk_shape)
    policy.set_sampler(nfe=2, noise_scale=0.5)
    without = policy.sample(batch, noise=noise).chunk
    policy.set_sampler(nfe=2, noise_scale=0.5, renoise=1.0)
    assert policy.renoise == policy.metadata["renoise"] == 1.0
    given = policy.sample(batch, noise=noise)
    assert given.nfe == 2 and not torch.equal(given.chunk, without)
    cond, x = policy.encode(batch), 0.5 * noise
    with torch.no_grad():
        near = [policy.model.flow_block(n) for n in (2, 1)]
        x = x - near[0].velocity(x, torch.ones(3), cond)
        x = x + near[1].step.noise_std * 0.5 * noise
        x = x - near[1].velocity(x, torch.ones(3), cond)
    action = policy.normalizer["action"]
    expected = policy.normalizer.unnormalize("action", x)
    if policy.config.policy.clip_actions:
        expected = expected.clamp(action.min, action.max)
    torch.testing.assert_close(given.chunk, expected)


def test_it_is_saved(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(**TWO_BLOCKS)
    policy.info |= training_summary(policy.config, policy.model)
    policy.set_sampler(nfe=2, renoise=0.7)
    batch, noise = policy.fake_batch(2), torch.randn(2, *policy.chunk_shape)
    assert policy.pipeline.copy("cpu").sampler.renoise == 0.7
    again = load_policy(policy.save(tmp_path / "saved"))
    assert again.renoise == 0.7
    assert torch.equal(
        again.sample(batch, noise=noise).chunk, policy.sample(batch, noise=noise).chunk
    )


@pytest.mark.parametrize("share", [-0.1, float("nan"), 11.0])
def test_bad_shares(make_policy: MakePolicy, share: float) -> None:
    with pytest.raises(InputError, match="renoise"):
        make_policy(**TWO_BLOCKS).set_sampler(renoise=share)
