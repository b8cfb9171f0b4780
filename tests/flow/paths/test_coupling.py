from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lfm_policy.flow import COUPLINGS, OUStep

STEP = OUStep(0.3)
NAMES = ["dependent", "shuffled", "independent"]


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", NAMES)
def test_every_coupling_has_the_same_marginal(name: str) -> None:
    x_l = 2.0 + 0.5 * torch.randn(50_000, 2, generator=_seeded(1))
    x_other = 2.0 + 0.5 * torch.randn(50_000, 2, generator=_seeded(2))
    x_r = COUPLINGS.get(name)(x_l, STEP, x_other=x_other, generator=_seeded(3))
    variance = STEP.decay**2 * 0.25 + STEP.noise_std**2
    torch.testing.assert_close(x_r.mean(0), torch.full((2,), 2 * STEP.decay), atol=0.02, rtol=0)
    torch.testing.assert_close(x_r.var(0), torch.full((2,), variance), atol=0.02, rtol=0)
    covariance = ((x_l - 2) * (x_r - 2 * STEP.decay)).mean(0)
    expected = STEP.decay * 0.25 if name == "dependent" else 0.0
    torch.testing.assert_close(covariance, torch.full((2,), expected), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_free_block_ends_in_independent_noise(name: str) -> None:
    x_l = torch.randn(6, 4, 2)
    expected = torch.randn(6, 4, 2, generator=_seeded())
    assert torch.equal(COUPLINGS.get(name)(x_l, OUStep(None), generator=_seeded()), expected)


def test_dependent_is_the_written_formula() -> None:
    x_l = torch.randn(8, 3)
    z = torch.randn(8, 3, generator=_seeded())
    torch.testing.assert_close(
        COUPLINGS.get("dependent")(x_l, STEP, generator=_seeded()),
        STEP.decay * x_l + STEP.noise_std * z,
    )


def test_shuffled_permutes_whole_samples() -> None:
    x_l = torch.randn(32, 4, 2)
    dependent = COUPLINGS.get("dependent")(x_l, STEP, generator=_seeded())
    shuffled = COUPLINGS.get("shuffled")(x_l, STEP, generator=_seeded())

    def rows(x: Tensor) -> list[tuple[float, ...]]:
        return [tuple(row.tolist()) for row in x.flatten(1)]

    assert rows(shuffled) != rows(dependent)
    assert sorted(rows(shuffled)) == sorted(rows(dependent))


def test_independent_diffuses_the_other_batch() -> None:
    x_l, x_other = torch.randn(2, 8, 3)
    independent = COUPLINGS.get("independent")(x_l, STEP, x_other=x_other, generator=_seeded())
    assert torch.equal(independent, COUPLINGS.get("dependent")(x_other, STEP, generator=_seeded()))


@pytest.mark.parametrize("x_other", [None, torch.zeros(8, 4)])
def test_independent_needs_the_other_batch(x_other: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"x_other of shape \(8, 3\)"):
        COUPLINGS.get("independent")(torch.randn(8, 3), STEP, x_other=x_other)
