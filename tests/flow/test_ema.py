"""The moving average of weights is the one of diffusers, update for update."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lfm_policy.flow.ema import EMA


def parameters(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,), ())]


@pytest.mark.parametrize(("decay", "power"), [(0.999, 0.75), (0.5, 0.75), (0.9999, 2 / 3)])
def test_it_is_that_of_diffusers(decay: float, power: float) -> None:
    reference = pytest.importorskip("diffusers.training_utils")
    trained = parameters(0)
    ema = EMA(trained, decay=decay, power=power)
    other = reference.EMAModel(trained, decay=decay, use_ema_warmup=True, power=power)
    for step in range(20):
        with torch.no_grad():
            for parameter, target in zip(trained, parameters(step + 1), strict=True):
                parameter.copy_(target)
        ema.update()
        other.step(trained)
        for ours, theirs in zip(ema.weights, other.shadow_params, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert ema.steps == 20


def test_parameters_get_the_average_for_a_while_and_for_good() -> None:
    trained = parameters(0)
    ema = EMA(trained, decay=0.9, power=0.75)
    first = [p.detach().clone() for p in trained]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(1)
    with pytest.raises(RuntimeError, match="stop"), ema.applied():
        assert all(torch.equal(p, w) for p, w in zip(trained, first, strict=True))
        raise RuntimeError("stop")
    assert all(torch.equal(p, w + 1) for p, w in zip(trained, first, strict=True))
    ema.copy_to_parameters()
    assert all(torch.equal(p, w) for p, w in zip(trained, first, strict=True))


def test_it_goes_on_where_it_was() -> None:
    trained = parameters(0)
    ema = EMA(trained, decay=0.9, power=0.75)
    for _ in range(3):
        ema.update()
    again = EMA(parameters(1), decay=0.9, power=0.75)
    again.load(ema.weights, ema.steps)
    assert again.steps == 3
    assert all(torch.equal(a, b) for a, b in zip(again.weights, ema.weights, strict=True))
