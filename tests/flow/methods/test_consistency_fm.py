"""Consistency flow matching: the ends of straight steps, segments of time, and a training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.errors import InputError
from lfm_policy.flow import (
    ConsistencyFlowConfig,
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    Network,
    OUStep,
    SolverSpec,
    fit,
)

STEPS = [OUStep(0.02), OUStep(0.5), OUStep(None)]
POINT = torch.tensor([0.7, -1.2, 0.1], dtype=torch.float64)


def begin_of(t: Tensor, segments: int) -> Tensor:
    """Return the data side of the segment of each time; its noise side is part of it."""
    return ((t * segments).ceil() - 1).clamp(min=0) / segments


def of_a_point(step: OUStep, segments: int) -> Network:
    """Return the exact mean velocity to the data side of a segment, for data that are one point.

    On straight paths I_t = m_t + t b z with m_t = (1 - t + t a) mu: every path is known from one of
    its points, so that the flow goes along the paths themselves. Its velocity is
    dm_t/dt + (x - m_t) / t, the same at all times of a path.
    """

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        t = t[:, None].clamp(min=1e-12)  # at t = 0 the answer counts for nothing but must be finite
        mean = (1 - t + t * step.decay) * POINT
        return (step.decay - 1) * POINT + (x - mean) / t

    return network


@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
def test_of_a_point_the_exact_answer_has_no_loss(step: OUStep, segments: int) -> None:
    config = ConsistencyFlowConfig(segments=segments, delta=0.05, alpha=2.0)
    block = FlowBlock(of_a_point(step, segments), step, method=config)
    x_l = POINT.expand(500, 3)
    assert float(block.loss(x_l)) < 1e-12
    # And another velocity has one.
    other = FlowBlock(lambda x, t, cond: torch.zeros_like(x), step, method=config)
    assert float(other.loss(x_l)) > 1e-6


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_paths_that_are_bent_but_known_lead_to_one_end(step: OUStep, segments: int) -> None:
    """The same on the trigonometric path, by the closed form of a narrow normal distribution.

    Its mean velocity changes along a path, and only the ends are the same (alpha = 0).
    """
    cov = 1e-14 * torch.eye(3, dtype=torch.float64)
    exact = GaussianBlockVelocity(POINT, cov, step, "trigonometric")

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return exact.mean_velocity(x, torch.stack([t, begin_of(t, segments)], 1))

    config = ConsistencyFlowConfig(segments=segments, delta=0.05, alpha=0.0)
    block = FlowBlock(network, step, "trigonometric", method=config)
    generator = torch.Generator().manual_seed(0)
    assert float(block.loss(POINT.expand(500, 3), generator=generator)) < 1e-9


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("interpolant", ["linear", "trigonometric"])
def test_of_normal_data_the_mean_velocity_is_what_the_loss_asks_for(
    dimension: int, step: OUStep, interpolant: str
) -> None:
    """For small delta the loss has no gradient at the exact mean velocity u(x, t, 0).

    With f(x, t) = X_{t->0}(x), E[f(I_t, t) - f(I_{t-delta}, t - delta) | I_t] is of second order in
    delta: over delta nothing is left but what 200,000 drawn paths leave to chance.
    """
    generator = torch.Generator().manual_seed(dimension)
    root = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    cov = 0.3 * root @ root.mT + 0.1 * torch.eye(dimension, dtype=torch.float64)
    mean = torch.randn(dimension, generator=generator, dtype=torch.float64)
    exact = GaussianBlockVelocity(mean, cov, step, interpolant)

    def gradient(of: Network, delta: float) -> float:
        """Return the size of d loss / d gain over delta, for of(x) + gain x."""
        gain = torch.zeros(dimension, dimension, dtype=torch.float64, requires_grad=True)

        def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            return of(x, t, cond) + x @ gain

        method = ConsistencyFlowConfig(segments=1, delta=delta, alpha=0.0)
        block = FlowBlock(network, step, interpolant, method=method)
        x_l = mean + sample @ torch.linalg.cholesky(cov).mT
        loss = block.loss(x_l, generator=torch.Generator().manual_seed(1))
        (found,) = torch.autograd.grad(loss, gain)
        return float(found.norm()) / delta

    sample = torch.randn(200_000, dimension, generator=generator, dtype=torch.float64)

    def mean_velocity(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return exact.mean_velocity(x, torch.stack([t, torch.zeros_like(t)], 1))

    at_the_answer = gradient(mean_velocity, 1e-3)
    assert at_the_answer < 0.1 * gradient(lambda x, t, cond: torch.zeros_like(x), 1e-3)


def test_both_points_lie_in_one_segment() -> None:
    """Times are uniform over each segment but its first delta; the other point is delta before."""
    asked: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        asked.append((x, t))
        return torch.zeros_like(x)

    config = ConsistencyFlowConfig(segments=4, delta=0.1)
    x_l = torch.full((40_000, 2), 3.0, dtype=torch.float64)
    FlowBlock(network, OUStep(None), method=config).loss(x_l)
    (x_later, later), (x_earlier, earlier) = asked
    torch.testing.assert_close(later - earlier, torch.full_like(later, 0.1))
    assert torch.equal(begin_of(later, 4), (earlier * 4).floor() / 4)
    inside = (later - begin_of(later, 4) - 0.1) / 0.15
    assert float(inside.min()) >= -1e-9 and float(inside.max()) <= 1
    assert float(inside.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(inside.std()) == pytest.approx(12**-0.5, abs=0.01)
    # The same path: both have the noise of one pair.
    noise = [
        (x - (1 - t[:, None]) * 3) / t[:, None] for x, t in ((x_later, later), (x_earlier, earlier))
    ]
    near = earlier < 1e-3
    torch.testing.assert_close(noise[0][~near], noise[1][~near], rtol=0, atol=1e-6)


def test_the_loss_is_that_of_the_paper() -> None:
    """Written out for one network, one segment."""
    weights = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return weights * x + t[:, None]

    class At:
        def sample(self, n: int, **options: object) -> Tensor:
            return torch.full((n,), 0.5, dtype=torch.float64)

    config = ConsistencyFlowConfig(segments=1, delta=0.2, alpha=0.7)
    block = FlowBlock(network, OUStep(None), time_sampler=At(), method=config)
    x_l = torch.randn(10, 2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    loss = block.loss(x_l, generator=generator)
    z = torch.randn(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t, r = 0.4 + 0.2, 0.4  # half of what is left of the segment, 0.8, and delta more
    x_t, x_r = (1 - t) * x_l + t * z, (1 - r) * x_l + r * z
    v_t, v_r = weights * x_t + t, (weights * x_r + r).detach()
    expected = ((x_t - t * v_t - (x_r - r * v_r)) ** 2).mean() + 0.7 * ((v_t - v_r) ** 2).mean()
    expected = expected / 0.2**2  # which the paper does not do
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights)
    )


@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
def test_one_step_through_each_segment_is_the_exact_map(step: OUStep, segments: int) -> None:
    cov = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64)
    exact = GaussianBlockVelocity(POINT[:2], cov, step)

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return exact.mean_velocity(x, torch.stack([t, begin_of(t, segments)], 1))

    config = ConsistencyFlowConfig(segments=segments)
    chain = FlowChain([FlowBlock(network, step, method=config)])
    x = torch.randn(100, 2, dtype=torch.float64)
    found = chain.sample(x, solver=SolverSpec("euler", segments))
    one, zero = torch.ones(100).double(), torch.zeros(100).double()
    torch.testing.assert_close(found.x, exact.flow_map(x, one, zero))
    assert found.nfe == segments


def test_it_has_no_velocity() -> None:
    block = FlowBlock(of_a_point(OUStep(None), 1), OUStep(None), method="consistency_fm")
    x = torch.zeros(2, 3, dtype=torch.float64)
    for solver in (SolverSpec("midpoint", 2), SolverSpec("dopri5")):
        with pytest.raises(InputError, match="'consistency_fm' lead to the data in steps of"):
            block.run(x, t_start=1.0, t_end=0.0, solver=solver)
    with pytest.raises(InputError, match="'consistency_fm' lead to the data in steps of"):
        block.run(x, t_start=0.0, t_end=1.0, solver=SolverSpec("euler", 4))


def test_several_blocks_learn_from_exact_marginals() -> None:
    options = {"flow": {"n_blocks": 3, "method": "consistency_fm"}}
    with pytest.raises(InputError, match=r"flow\.method\.name is 'consistency_fm' with 3 blocks"):
        config_from_dict(options, "test")
    training = {"block_training": "parallel"}
    assert isinstance(config_from_dict({**options, "training": training}, "test"), ExperimentConfig)


def test_other_solvers_are_refused_with_their_option() -> None:
    options = {
        "flow": {"n_blocks": 1, "method": "consistency_fm"},
        "sampler": {"solver": "heun", "nfe": 2},
    }
    with pytest.raises(InputError, match=r"sampler\.solver: networks of 'consistency_fm' lead"):
        config_from_dict(options, "test")


@pytest.mark.parametrize("evaluations", [1, 3, [2, 3]])
def test_a_step_over_two_segments_is_refused(evaluations: int | list[int]) -> None:
    each = isinstance(evaluations, list)
    options = {
        "flow": {
            "n_blocks": 2 if each else 1,
            "method": {"name": "consistency_fm", "segments": 2},
        },
        "sampler": {"block_nfe" if each else "nfe": evaluations},
        "training": {"block_training": "parallel" if each else "sequential"},
    }
    with pytest.raises(
        InputError, match=r"no step of a block ends at t = 0\.5, where one of its 2"
    ):
        config_from_dict(options, "test")


def test_what_guided_steps_cost_is_said_where_they_are_too_few() -> None:
    method = {"name": "consistency_fm", "segments": 2}
    flow = {"n_blocks": 1, "method": method, "drop_obs": 0.1}
    with pytest.raises(InputError, match=r"ask for 2 steps per block, .* two with guidance"):
        config_from_dict({"flow": flow, "sampler": {"nfe": 2, "guidance": 2.0}}, "test")


@pytest.mark.parametrize("sampler", [{"nfe": 4}, {"nfe": 3, "times": [0.8, 0.5]}, {"nfe": 6}])
def test_more_steps_end_at_the_segments_too(sampler: dict[str, object]) -> None:
    method = {"name": "consistency_fm", "segments": 2}
    config_from_dict({"flow": {"n_blocks": 1, "method": method}, "sampler": sampler}, "test")


def test_a_step_has_to_fit_into_a_segment() -> None:
    with pytest.raises(InputError, match="delta is 0.25; expected less than a segment, which is"):
        ConsistencyFlowConfig(segments=4, delta=0.25)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2)
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return self.net(torch.cat([x, t[:, None]], 1))


@pytest.mark.slow
@pytest.mark.parametrize("segments", [1, 2])
def test_one_step_through_each_segment_comes_near_the_exact_map(segments: int) -> None:
    torch.manual_seed(0)
    cov = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64)
    x = POINT[:2] + torch.randn(8000, 2, dtype=torch.float64) @ torch.linalg.cholesky(cov).mT
    method = ConsistencyFlowConfig(segments=segments)
    chain = FlowChain([FlowBlock(Net(), OUStep(None), method=method)])
    fit(chain, x.float(), steps=900, batch_size=128, learning_rate=4e-3)
    z = torch.randn(1000, 2, dtype=torch.float64)
    one, zero = torch.ones(1000).double(), torch.zeros(1000).double()
    exact = GaussianBlockVelocity(POINT[:2], cov, OUStep(None)).flow_map(z, one, zero)
    with torch.no_grad():
        found = chain.sample(z.float(), solver=SolverSpec("euler", segments)).x
    error = (found - exact).square().mean().sqrt()
    assert float(error) < 0.35 * float((exact - POINT[:2]).square().mean().sqrt())
