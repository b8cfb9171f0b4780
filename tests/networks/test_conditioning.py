"""Time embedding and modulation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lfm_policy.networks.conditioning import (
    MAX_FREQUENCY,
    MIN_FREQUENCY,
    ConditionEmbedding,
    IntegerTimeEmbedding,
    Modulation,
    StepFilm,
    TimeEmbedding,
    modulate,
    with_more_times,
)


@pytest.mark.parametrize("dim", [2, 4, 64])
def test_the_time_embedding_is_sines_then_cosines(dim: int) -> None:
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    half = dim // 2
    ratio = MAX_FREQUENCY / MIN_FREQUENCY
    frequencies = torch.tensor(
        [MIN_FREQUENCY * ratio ** (k / max(half - 1, 1)) for k in range(half)], dtype=torch.float64
    )
    angles = t[:, None] * frequencies
    expected = torch.cat([angles.sin(), angles.cos()], dim=1)
    found = TimeEmbedding(dim).double()(t)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_times_are_told_apart_and_neighbours_stay_close() -> None:
    t = torch.linspace(0, 1, 201)
    embedding = TimeEmbedding(64)(t)
    distances = torch.cdist(embedding, embedding)
    far = (t[:, None] - t[None]).abs() > 0.02
    step = distances.diagonal(offset=1).max()
    assert distances[far].min() > step > 0
    assert step <= 1 / 200 * MAX_FREQUENCY * math.sqrt(32)


def test_modulation_starts_as_the_identity_with_closed_gates() -> None:
    modulation = Modulation(6, [4, 4, 3])
    pieces = modulation(torch.randn(2, 6))
    assert [tuple(piece.shape) for piece in pieces] == [(2, 4), (2, 4), (2, 3)]
    assert all(torch.equal(piece, torch.zeros_like(piece)) for piece in pieces)
    x = torch.randn(2, 4)
    assert torch.equal(modulate(x, pieces[0], pieces[1]), x)


def test_modulate_is_scale_and_shift() -> None:
    x, shift, scale = torch.randn(3, 2, 4), torch.randn(2, 4), torch.randn(2, 4)
    torch.testing.assert_close(modulate(x, shift, scale), x * (1 + scale) + shift)


def test_time_and_observation_both_matter() -> None:
    torch.manual_seed(0)
    embedding = ConditionEmbedding(cond_dim=3, time_embed_dim=8, width=16)
    t, cond = torch.rand(2), torch.randn(2, 3)
    base = embedding(t, cond)
    assert base.shape == (2, 16)
    assert not torch.allclose(base, embedding(1 - t, cond))
    assert not torch.allclose(base, embedding(t, -cond))


def test_integer_times_are_whole_and_have_derivatives() -> None:
    embedding = IntegerTimeEmbedding(8, 1000)
    tau = torch.arange(1000)
    found = embedding((tau + 1).float() / 1000)
    frequencies = torch.exp(torch.arange(4) * -(math.log(10_000) / 3))
    angles = tau[:, None] * frequencies
    assert torch.equal(found, torch.cat([angles.sin(), angles.cos()], dim=-1))
    between = embedding(torch.tensor([0.5004]))
    assert not torch.equal(between, embedding(torch.tensor([0.5])))
    # The derivative is that of a time that was never rounded.
    time = torch.tensor([0.3], requires_grad=True)
    embedding(time)[0, 0].backward()
    assert time.grad is not None
    assert time.grad.item() == pytest.approx(1000 * math.cos(299), rel=1e-3)


def test_more_times_of_a_step_film_are_ignored() -> None:
    torch.manual_seed(0)
    one = nn.ModuleDict({"film": StepFilm(8, 6, 100)})
    two = nn.ModuleDict({"film": StepFilm(8, 6, 100, n_times=2)})
    two.load_state_dict(with_more_times(two, one.state_dict()))
    times = torch.rand(5, 2)
    torch.testing.assert_close(two["film"](times), one["film"](times[:, 0]))
