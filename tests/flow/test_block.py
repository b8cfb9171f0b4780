from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.flow import (
    BetaTime,
    BlockPath,
    FlowBlock,
    GaussianBlockVelocity,
    Network,
    OdeMethod,
    OUStep,
    PathSample,
    SolverSpec,
    Velocity,
    VelocityConfig,
    integrate,
)

STEP = OUStep(0.3)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _zero(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("interpolant", ["linear", "trigonometric"])
@pytest.mark.parametrize("coupling", ["dependent", "shuffled", "independent"])
@pytest.mark.parametrize("step", [STEP, OUStep(None)])
def test_loss_is_the_mean_square_error(interpolant: str, coupling: str, step: OUStep) -> None:
    x_l, x_other = torch.randn(2, 16, 4, 2, dtype=torch.float64)
    block = FlowBlock(lambda x, t, cond: x * t[:, None, None], step, interpolant, coupling)
    path = block.path_sample(x_l, x_other=x_other, generator=_seeded())
    loss = block.loss(x_l, x_other=x_other, generator=_seeded())
    expected = (path.x_t * path.t[:, None, None] - path.dx_t).square().mean()
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected)


def test_the_exact_velocity_minimises_the_loss() -> None:
    x_l = 0.5 + 0.7 * torch.randn(100_000, 1, generator=_seeded(1), dtype=torch.float64)
    exact = GaussianBlockVelocity(
        torch.tensor([0.5]).double(), torch.tensor([[0.49]]).double(), STEP
    )

    def loss(scale: float, shift: float) -> float:
        block = FlowBlock(lambda x, t, cond: scale * exact(x, t) + shift, STEP)
        return block.loss(x_l, generator=_seeded(2)).item()

    best = loss(1.0, 0.0)
    assert best < min(loss(0.5, 0.0), loss(1.5, 0.0), loss(1.0, 0.05), loss(1.0, -0.05))


def test_the_condition_and_gradients_reach_the_network() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6 + 1 + 3, 6)

        def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            assert cond is not None
            features = torch.cat([x.flatten(1), t[:, None], cond], dim=1)
            return self.linear(features).reshape(x.shape)

    net = Net()
    block = FlowBlock(net, STEP)
    assert block.network is net
    block.loss(torch.randn(8, 3, 2), torch.randn(8, 3)).backward()
    assert net.linear.weight.grad is not None
    assert (net.linear.weight.grad != 0).all()


def test_randomness_is_global_by_default() -> None:
    block, x_l = FlowBlock(_zero, STEP), torch.randn(8, 3)
    losses = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        losses.append(block.loss(x_l).item())
    assert losses[0] == losses[1] != losses[2]


def test_times_come_from_the_sampler() -> None:
    block = FlowBlock(_zero, STEP, time_sampler=BetaTime(50.0, 1.0))
    assert block.path_sample(torch.zeros(1000, 2)).t.mean() > 0.95


def test_another_shape_from_the_network_is_an_error() -> None:
    block = FlowBlock(lambda x, t, cond: x[..., :1], STEP)
    with pytest.raises(ValueError, match=r"returned shape \(4, 3, 1\)"):
        block.loss(torch.zeros(4, 3, 2))


@pytest.mark.parametrize("option", ["interpolant", "coupling", "method"])
def test_unknown_names(option: str) -> None:
    with pytest.raises(InputError, match="'nonsense'"):
        FlowBlock(_zero, STEP, **{option: "nonsense"})  # type: ignore[arg-type]


def test_the_meaning_of_the_output_is_replaceable() -> None:
    """A network that predicts -v: its loss target and its velocity both come from one object."""

    class Negated(OdeMethod):
        def loss(
            self,
            network: Network,
            sample: PathSample,
            cond: Tensor | None,
            path: BlockPath,
            *,
            average: Network | None = None,
            generator: torch.Generator | None = None,
        ) -> Tensor:
            return (network(sample.x_t, sample.t, cond) + sample.dx_t).square().mean()

        def velocity(self, network: Network, path: BlockPath) -> Velocity:
            return lambda x, t, cond: -network(x, t, cond)

    mean, cov = torch.zeros(2).double(), 0.5 * torch.eye(2).double()
    exact = GaussianBlockVelocity(mean, cov, STEP)
    plain = FlowBlock(exact, STEP)
    negated = FlowBlock(lambda x, t, cond: -exact(x, t), STEP, method=Negated(VelocityConfig()))
    x = torch.randn(10, 2, dtype=torch.float64)
    torch.testing.assert_close(
        negated.loss(x, generator=_seeded()), plain.loss(x, generator=_seeded())
    )
    pushed = [
        integrate(b.velocity, x, t_start=0, t_end=1, solver=SolverSpec("heun", 4)).x
        for b in (plain, negated)
    ]
    torch.testing.assert_close(pushed[0], pushed[1])
