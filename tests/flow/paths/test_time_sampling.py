from __future__ import annotations

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.flow import (
    TIME_SAMPLERS,
    BetaTime,
    NoiseEndTimes,
    PointTimes,
    TimeSampler,
    UniformTime,
)


@pytest.mark.parametrize(
    ("sampler", "alpha", "beta"),
    [(UniformTime(), 1.0, 1.0), (BetaTime(1, 1), 1.0, 1.0), (BetaTime(2.0, 0.5), 2.0, 0.5)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments(sampler: TimeSampler, alpha: float, beta: float, dtype: torch.dtype) -> None:
    t = sampler.sample(100_000, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert t.shape == (100_000,)
    assert t.dtype == dtype
    assert t.min() >= 0 and t.max() <= 1
    total = alpha + beta
    assert t.mean().item() == pytest.approx(alpha / total, abs=0.005)
    assert t.var().item() == pytest.approx(alpha * beta / total**2 / (total + 1), abs=0.005)


@pytest.mark.parametrize("sampler", [UniformTime(), BetaTime(1.5, 1.0)])
def test_seeds_reproduce(sampler: TimeSampler) -> None:
    first, second = (
        sampler.sample(9, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)
    torch.manual_seed(3)
    globally = sampler.sample(9)
    torch.manual_seed(3)
    assert torch.equal(globally, sampler.sample(9))


def test_extreme_parameters_stay_finite() -> None:
    t = BetaTime(1e-4, 1e-4).sample(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(t).all()
    assert t.min() >= 0 and t.max() <= 1


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_parameters(bad: float) -> None:
    with pytest.raises(InputError, match="alpha is"):
        BetaTime(bad, 1.0)
    with pytest.raises(InputError, match="beta is"):
        BetaTime(1.0, bad)


def test_names() -> None:
    assert TIME_SAMPLERS.get("uniform")() == UniformTime()
    assert TIME_SAMPLERS.get("beta")(alpha=2.0, beta=1.0) == BetaTime(2.0, 1.0)
    assert TIME_SAMPLERS.get("points")(points=[1, 0.1]) == PointTimes((1.0, 0.1))


def test_points_are_drawn_equally_often() -> None:
    t = PointTimes((1.0, 0.1, 0.5)).sample(30_000, generator=torch.Generator().manual_seed(0))
    values, counts = t.unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([0.1, 0.5, 1.0]))
    assert counts.min() > 9_500


@pytest.mark.parametrize("bad", [(), (1.1,), (0.5, -0.1), (float("nan"),)])
def test_bad_points(bad: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="expected at least one number from 0 to 1"):
        PointTimes(bad)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_times_is_at_the_noise(share: float) -> None:
    sampler = NoiseEndTimes(share, BetaTime(1.0, 2.0))
    t = sampler.sample(40_000, generator=torch.Generator().manual_seed(0))
    assert float((t == 1).float().mean()) == pytest.approx(share, abs=0.01)
    if share < 1:
        assert float(t[t < 1].mean()) == pytest.approx(1 / 3, abs=0.01)
    again = sampler.sample(40_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(t, again)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_bad_shares(share: float) -> None:
    with pytest.raises(InputError, match="share of times at the noise is"):
        NoiseEndTimes(share, UniformTime())
