"""Noise that can be repeated anywhere."""

from __future__ import annotations

import itertools

import torch

from lfm_policy.policy import chunk_noise


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
