"""Noise that can be repeated anywhere, and noise that chunks are given back between blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.policy import Policy, chunk_noise, load_policy

from .conftest import training_summary

MakePolicy = Callable[..., Policy]
TWO_BLOCKS = {"flow": {"n_blocks": 2, "c": 0.2}}


def test_depends_on_its_arguments_only() -> None:
    torch.manual_seed(0)
    first = chunk_noise(3, 4, 5, (16, 2))
    torch.manual_seed(1)
    torch.randn(10)
    assert torch.equal(chunk_noise(3, 4, 5, (16, 2)), first)
    assert first.shape == (16, 2) and first.dtype == torch.float32


def test_every_seed_episode_and_chunk_has_its_own() -> None:
    keys = list(itertools.product(range(4), repeat=3))
    draws = {tuple(chunk_noise(*key, (4,)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_it_is_standard_normal() -> None:
    values = torch.stack([chunk_noise(0, e, k, (16, 2)) for e in range(40) for k in range(10)])
    assert abs(float(values.mean())) < 4 / values.numel() ** 0.5
    assert abs(float(values.var()) - 1) < 4 * (2 / values.numel()) ** 0.5
    # Chunks that follow one another are not correlated.
    pairs = values.reshape(40, 10, -1)
    correlation = float((pairs[:, 1:] * pairs[:, :-1]).mean())
    assert abs(correlation) < 4 / pairs[:, 1:].numel() ** 0.5


def test_values_are_the_same_for_ever() -> None:
    expected = torch.tensor([2.4908481, 0.3457159, 1.1981328, -1.5762805])
    torch.testing.assert_close(chunk_noise(0, 1, 2, (4,)), expected, rtol=0, atol=1e-6)


# -- given back between blocks ---------------------------------------------------------------------


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


def test_noise_given_back_is_saved(make_policy: MakePolicy, tmp_path: Path) -> None:
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
def test_bad_shares_of_noise_given_back(make_policy: MakePolicy, share: float) -> None:
    with pytest.raises(InputError, match="renoise"):
        make_policy(**TWO_BLOCKS).set_sampler(renoise=share)
