"""Diffusion against closed forms for Gaussian data, and against loops written as others write them.

The best prediction for chunks of N(mu, Sigma) is affine: with C = alpha^2 Sigma + sigma^2 I it is
E[x_r | x_tau] = sigma C^-1 (x_tau - alpha mu), and E[x_l | x_tau] = mu + alpha Sigma C^-1 (...).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lfm_policy.errors import InputError, OptionError
from lfm_policy.flow import (
    SOLVERS,
    DiffusionConfig,
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    Network,
    OUStep,
    PathSample,
    SolverSpec,
    gaussian_network,
    integrate,
    log_prob,
)
from lfm_policy.flow.methods.diffusion.schedulers import row_generators

FREE = OUStep(None)
PREDICTIONS = ["epsilon", "sample", "v"]
SCHEDULES = [("squaredcos_cap_v2", 100), ("squaredcos_cap_v2", 37), ("linear", 1000)]
SAMPLERS = ["ddpm", "ddim", "dpmsolver++"]
SHAPE = (3, 2)


def alphas_cumprod(schedule: str, steps: int) -> np.ndarray:
    """Return alpha^2 at the integer times, by the formulas of the papers."""
    if schedule == "linear":
        return np.cumprod(1 - np.linspace(1e-4, 0.02, steps))
    edges = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - edges[1:] / edges[:-1], 0.999))


class Gaussian:
    """N(mu, Sigma) of chunks of `SHAPE`, or of one shape that is given, and its predictors."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, spread: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(1)
        size = math.prod(shape)
        basis = torch.randn(size, size, generator=generator, dtype=torch.float64)
        self.shape = shape
        self.mean = spread * torch.randn(size, generator=generator, dtype=torch.float64)
        self.cov = spread**2 * (basis @ basis.mT / size + 0.1 * torch.eye(size).double())

    def noise(self, rows: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, *self.shape, generator=generator, dtype=torch.float64)

    def exact(self) -> GaussianBlockVelocity:
        return GaussianBlockVelocity(self.mean, self.cov, FREE)

    def network(self, config: DiffusionConfig) -> Network:
        """Return the best network; between integer times t = sigma / (alpha + sigma) is linear."""
        kept = alphas_cumprod(config.beta_schedule, config.train_steps)
        nodes = np.sqrt(1 - kept) / (np.sqrt(kept) + np.sqrt(1 - kept))

        def network(x: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
            assert bool(((time > 0.99 / config.train_steps) & (time <= 1)).all())
            tau = time.double().numpy() * config.train_steps - 1
            t = torch.from_numpy(np.interp(tau, np.arange(config.train_steps), nodes))
            length = torch.sqrt((1 - t) ** 2 + t**2)
            alpha, sigma = ((1 - t) / length)[:, None, None], (t / length)[:, None, None]
            identity = torch.eye(len(self.mean)).double()
            total = alpha**2 * self.cov + sigma**2 * identity
            centred = x.double().flatten(1)[..., None] - alpha * self.mean[:, None]
            solved = torch.linalg.solve(total, centred)
            epsilon = sigma * solved
            data = self.mean[:, None] + alpha * self.cov @ solved
            answers = {"epsilon": epsilon, "sample": data, "v": alpha * epsilon - sigma * data}
            return answers[config.prediction].reshape(x.shape).to(x.dtype)

        return network

    def block(self, config: DiffusionConfig) -> FlowBlock:
        return FlowBlock(self.network(config), FREE, method=config)


def options(schedule: str = "squaredcos_cap_v2", steps: int = 100, **more: object):
    return DiffusionConfig(
        beta_schedule=schedule, train_steps=steps, **{"clip_sample": False, **more}
    )


def ends(block: FlowBlock, x: Tensor, solver: str, n_steps: int) -> Tensor:
    found = block.run(x, None, t_start=1.0, t_end=0.0, solver=SolverSpec(solver, n_steps))
    assert found.nfe == SOLVERS.get(solver).evaluations * n_steps  # type: ignore[operator]
    return found.x


# -- the flow ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("shape", [(1,), SHAPE, (2, 1, 3)], ids=str)
def test_the_velocity_is_that_of_flow_matching(
    prediction: str, schedule: tuple[str, int], shape: tuple[int, ...]
) -> None:
    gaussian = Gaussian(shape)
    block = gaussian.block(options(*schedule, prediction=prediction))
    # Between the first integer time and the last, which are at t = 0.01 to 0.06 and above 0.993.
    t = torch.linspace(0.07, 0.993, 60, dtype=torch.float64)
    x = gaussian.noise(60)
    torch.testing.assert_close(
        block.velocity(x, t, None), gaussian.exact()(x, t), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_best_network_that_sees_nothing_is_the_closed_form(prediction: str) -> None:
    gaussian, config = Gaussian(), options(prediction=prediction)
    known = gaussian_network(gaussian.block(config), gaussian.mean, gaussian.cov)
    assert known is not None
    x, time = gaussian.noise(50), torch.linspace(0.01, 1, 50, dtype=torch.float64)
    expected = gaussian.network(config)(x, time, None)
    torch.testing.assert_close(known(x, time, None), expected, rtol=1e-5, atol=1e-5)
    assert known(x.float(), time.float(), None).dtype == torch.float32


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_flow_is_integrated_and_has_a_likelihood(prediction: str) -> None:
    gaussian = Gaussian((2, 1))
    block = gaussian.block(options(steps=1000, prediction=prediction))
    x = gaussian.noise(20)
    there = gaussian.exact().flow_map(x, torch.ones(20).double(), torch.zeros(20).double())
    for solver, n_steps in (("midpoint", 40), ("heun", 60)):
        torch.testing.assert_close(ends(block, x, solver, n_steps), there, rtol=0, atol=2e-3)
    solver = SolverSpec("dopri5", rtol=1e-5, atol=1e-5)
    adaptive = block.run(x, None, t_start=1.0, t_end=0.0, solver=solver)
    torch.testing.assert_close(adaptive.x, there, rtol=0, atol=2e-3)
    density = torch.distributions.MultivariateNormal(gaussian.mean, gaussian.cov)
    found = log_prob(FlowChain([block]), there, solver=SolverSpec("midpoint", 60))
    torch.testing.assert_close(
        found.log_prob, density.log_prob(there.flatten(1)), rtol=0, atol=5e-3
    )


# -- schedulers --------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_of_many_steps_is_the_map_of_the_flow(prediction: str) -> None:
    gaussian, x = Gaussian(), Gaussian().noise(20)
    there = gaussian.exact().flow_map(x, torch.ones(20).double(), torch.zeros(20).double())
    errors = [
        float(
            (ends(gaussian.block(options(steps=n, prediction=prediction)), x, "ddim", n) - there)
            .abs()
            .max()
        )
        for n in (50, 100, 400)
    ]
    assert errors[0] > 1.8 * errors[1] > 5 * errors[2]  # of first order
    assert errors[2] < 0.02


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_dpm_solver_is_near_in_few_steps(prediction: str) -> None:
    gaussian, x = Gaussian(), Gaussian().noise(20)
    block = gaussian.block(options(steps=1000, prediction=prediction))
    there = gaussian.exact().flow_map(x, torch.ones(20).double(), torch.zeros(20).double())
    few, more = (float((ends(block, x, "dpmsolver++", n) - there).abs().max()) for n in (10, 40))
    assert few < 0.3 and more < few / 5
    assert few < float((ends(block, x, "ddim", 10) - there).abs().max())


def test_ddpm_samples_the_distribution() -> None:
    gaussian = Gaussian((2, 1))
    x = ends(gaussian.block(options()), gaussian.noise(3000), "ddpm", 100).flatten(1)
    torch.testing.assert_close(x.mean(0), gaussian.mean, rtol=0, atol=0.08)
    torch.testing.assert_close(x.mT.cov(), gaussian.cov, rtol=0.05, atol=0.1)


def scheduler_of(solver: str, config: DiffusionConfig):
    """Return the scheduler as a configuration of Diffusion Policy makes it."""
    import diffusers

    prediction = {"v": "v_prediction"}.get(config.prediction, config.prediction)
    facts = {
        "num_train_timesteps": config.train_steps,
        "beta_schedule": config.beta_schedule,
        "prediction_type": prediction,
    } | ({"timestep_spacing": config.spacing} if config.spacing else {})
    if solver == "dpmsolver++":
        # A dynamic threshold of at most 1 is a clip.
        clip = {"thresholding": config.clip_sample, "sample_max_value": 1.0}
        return diffusers.DPMSolverMultistepScheduler(**facts, **clip, lambda_min_clipped=-5.1)
    kind = {"ddpm": diffusers.DDPMScheduler, "ddim": diffusers.DDIMScheduler}[solver]
    return kind(**facts, clip_sample=config.clip_sample)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(
    ("solver", "n_steps", "spacing"),
    [
        ("ddpm", 100, ""),
        ("ddpm", 30, ""),
        ("ddpm", 10, "trailing"),
        ("ddim", 100, ""),
        ("ddim", 10, ""),
        ("ddim", 4, "trailing"),
        ("ddim", 1, "linspace"),
        ("dpmsolver++", 20, ""),
        ("dpmsolver++", 4, ""),
        ("dpmsolver++", 1, ""),
        ("dpmsolver++", 6, "leading"),
    ],
)
def test_chunks_are_those_of_the_loop_of_diffusion_policy(
    solver: str, n_steps: int, spacing: str, prediction: str, clip: bool
) -> None:
    gaussian = Gaussian(spread=0.7)
    config = options(prediction=prediction, spacing=spacing, clip_sample=clip)
    network, x = gaussian.network(config), gaussian.noise(3).float()
    expected = []
    for row, generator in zip(x, row_generators(x), strict=True):
        scheduler, sample = scheduler_of(solver, config), row[None]
        scheduler.set_timesteps(n_steps)
        drawn = {"generator": generator} if solver == "ddpm" else {}
        for t in scheduler.timesteps:
            output = network(sample, (t[None] + 1) / config.train_steps, None)
            sample = scheduler.step(output, t, sample, **drawn).prev_sample
        expected.append(sample)
    found = ends(gaussian.block(config), x, solver, n_steps)
    # Numbers that are 2,000 times as large as the noise come and go in the first step.
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-3, atol=2e-3)
    if clip:
        assert float(found.abs().max()) <= 1 + 1e-6


@pytest.mark.parametrize("solver", SAMPLERS)
def test_chunks_depend_on_their_own_noise_alone(solver: str) -> None:
    block, x = Gaussian().block(options()), Gaussian().noise(5)
    together = ends(block, x, solver, 10)
    torch.manual_seed(3)
    alone = torch.cat([ends(block, row[None], solver, 10) for row in x.flip(0)]).flip(0)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert ends(block, x[:0], solver, 10).shape == (0, *SHAPE)
    zeros = ends(block, 0.0 * x, solver, 10)  # of both signs
    torch.testing.assert_close(zeros, zeros[:1].expand_as(zeros), rtol=1e-5, atol=1e-6)


def test_ddpm_draws_noise_in_its_steps() -> None:
    block, x = Gaussian().block(options()), Gaussian().noise(1)
    near = torch.cat([x, x + 1e-9])
    one, other = ends(block, near, "ddpm", 100)
    assert float((one - other).abs().max()) > 0.1
    one, other = ends(block, near, "ddim", 100)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", SAMPLERS)
def test_the_path_has_a_state_for_every_step(solver: str) -> None:
    block, x = Gaussian().block(options()), Gaussian().noise(2)
    spec = SolverSpec(solver, 5)
    found = block.run(x, None, t_start=1.0, t_end=0.0, solver=spec, return_path=True)
    assert found.path is not None and found.path.shape == (6, 2, *SHAPE)
    assert torch.equal(found.path[0], x) and torch.equal(found.path[-1], found.x)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++", "euler"])
def test_gradients_flow_through_sampling_after_inference(solver: str) -> None:
    block, x = Gaussian().block(options()), Gaussian().noise(2)
    with torch.inference_mode():
        ends(block, x, solver, 4)
    x.requires_grad_(True)
    ends(block, x, solver, 4).sum().backward()
    assert x.grad is not None and float(x.grad.abs().min()) > 0


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_loss_is_the_error_of_the_prediction_at_integer_times(
    prediction: str, schedule: tuple[str, int]
) -> None:
    config = options(*schedule, prediction=prediction)
    steps = config.train_steps
    t = torch.tensor([0.0, 0.004, 0.51, 0.999999, 1.0], dtype=torch.float64)
    tau = np.minimum(np.floor(t.numpy() * steps).astype(int), steps - 1)
    kept = torch.from_numpy(alphas_cumprod(*schedule)[tau])[:, None, None]
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    x_l, x_r = Gaussian().noise(5), Gaussian().noise(5, seed=1)
    target = {"epsilon": x_r, "sample": x_l, "v": alpha * x_r - sigma * x_l}[prediction]

    def network(x: Tensor, time: Tensor, cond: Tensor | None) -> Tensor:
        torch.testing.assert_close(x, alpha * x_l + sigma * x_r, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(time, torch.from_numpy((tau + 1) / steps))
        return target + 0.5

    method = config.create()
    sample = PathSample(x_l, x_r - x_l, t, x_l, x_r)
    loss = method.loss(network, sample, None, FlowBlock(network, FREE).path)
    assert float(loss) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_no_affine_network_has_a_smaller_loss_than_the_closed_form(prediction: str) -> None:
    gaussian, config = Gaussian((2, 1)), options(prediction=prediction)
    exact = gaussian.network(config)
    chol = torch.linalg.cholesky(gaussian.cov)
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    x_l = (gaussian.mean + z @ chol.mT).reshape(-1, 2, 1)

    def loss(network: Callable[..., Tensor]) -> float:
        block = FlowBlock(network, FREE, method=config)
        return float(block.loss(x_l, generator=torch.Generator().manual_seed(5)))

    best = loss(exact)
    assert all(loss(lambda *a, f=f: f * exact(*a)) > best for f in (0.97, 1.03))
    assert all(loss(lambda *a, f=f: f + exact(*a)) > best for f in (-0.03, 0.03))


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SAMPLERS)
def test_other_methods_have_no_schedulers(solver: str) -> None:
    message = rf"solver {solver.replace('+', '.')}: only flow.method=diffusion has it"
    x, spec = torch.zeros(1, 2), SolverSpec(solver, 3)
    with pytest.raises(InputError, match=message):
        integrate(Gaussian((2,)).exact(), x, t_start=1.0, t_end=0.0, solver=spec)
    with pytest.raises(InputError, match=message):
        FlowBlock(Gaussian((2,)).exact(), FREE).run(x, t_start=1.0, t_end=0.0, solver=spec)


def test_a_scheduler_goes_the_whole_way_to_the_data() -> None:
    block, x = Gaussian().block(options()), Gaussian().noise(1)
    for start, end in ((0.0, 1.0), (1.0, 0.5)):
        with pytest.raises(InputError, match="from noise to data"):
            block.run(x, None, t_start=start, t_end=end, solver=SolverSpec("ddim", 4))
    with pytest.raises(InputError, match="101 steps are more than the 100 of training"):
        ends(block, x, "ddim", 101)
    with pytest.raises(InputError, match="expected 1, and a solver of fixed steps"):
        SolverSpec("ddim", 2, times=(0.5,))


def test_a_local_block_is_no_diffusion_model() -> None:
    config, x = options(), Gaussian().noise(2)
    block = FlowBlock(Gaussian().network(config), OUStep(0.1), method=config)
    with pytest.raises(InputError, match="its block has to be the free one"):
        block.loss(x)
    with pytest.raises(InputError, match="its block has to be the free one"):
        ends(block, x, "ddim", 4)


def test_a_linear_schedule_of_few_steps_is_refused() -> None:
    with pytest.raises(OptionError, match="is 100 with beta_schedule 'linear'"):
        DiffusionConfig(beta_schedule="linear")
    with pytest.raises(OptionError, match="expected at least 50"):
        DiffusionConfig(beta_schedule="linear", train_steps=40, beta_start=0.1, beta_end=0.1)
    assert DiffusionConfig(beta_schedule="linear", train_steps=50, beta_start=0.1, beta_end=0.1)


def test_the_ends_of_a_linear_schedule() -> None:
    config = DiffusionConfig(
        beta_schedule="linear", train_steps=200, beta_start=0.001, beta_end=0.06
    )
    kept = np.cumprod(1 - np.linspace(0.001, 0.06, 200))
    x, noise = torch.ones(200, *SHAPE), torch.zeros(200, *SHAPE)
    tau = (torch.arange(200) + 0.5) / 200
    seen = []
    config.create().loss(
        lambda x, t, cond: seen.append(x) or x,
        PathSample(x, noise, tau, x, noise),
        None,
        FlowBlock(lambda x, t, cond: x, FREE, method=config).path,
    )
    np.testing.assert_allclose(seen[0][:, 0, 0].numpy(), np.sqrt(kept), rtol=1e-4)


@pytest.mark.parametrize("solver", SAMPLERS)
def test_chunks_are_clipped_to_the_range_that_is_asked_for(solver: str) -> None:
    config = DiffusionConfig(prediction="sample", clip_range=2.0)
    block = FlowBlock(lambda x, t, cond: torch.full_like(x, 5.0), FREE, method=config)
    spec = SolverSpec(solver, 10)
    found = block.run(torch.zeros(2, *SHAPE), t_start=1, t_end=0, solver=spec).x
    torch.testing.assert_close(found, torch.full_like(found, 2.0), atol=1e-3, rtol=0)


def test_what_may_be_cut_off() -> None:
    assert DiffusionConfig().needs_limits
    assert not DiffusionConfig(clip_any=True).needs_limits
    assert not DiffusionConfig(clip_sample=False).needs_limits
    with pytest.raises(OptionError, match="clip_range is 0.5, expected at least 1"):
        DiffusionConfig(clip_range=0.5)
    assert DiffusionConfig(clip_range=0.5, clip_any=True)
