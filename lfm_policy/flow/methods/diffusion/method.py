"""Diffusion: the network predicts noise or chunk at integer times, schedulers make the steps."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.choices import SOLVERS
from lfm_policy.flow.methods.base import BlockPath, OdeMethod
from lfm_policy.flow.methods.diffusion.options import DiffusionConfig
from lfm_policy.flow.methods.diffusion.schedulers import (
    Sampler,
    row_generators,
    sampler,
    training_scheduler,
)
from lfm_policy.flow.paths.interpolant import PathSample
from lfm_policy.flow.solvers import OdeResult, SolverSpec
from lfm_policy.flow.solvers.velocity import (
    CountedVelocity,
    Network,
    Velocity,
    per_sample,
    time_like,
)


class DiffusionMethod(OdeMethod):
    """Denoising diffusion, as in Diffusion Policy (Chi et al., arXiv:2303.04137).

    With T = ``train_steps`` integer times tau = 0 .. T - 1 and the scheduler's alpha^2 + sigma^2 =
    1, a training pair is x_tau = alpha x_l + sigma x_r, and the network is asked at the time
    (tau + 1) / T: 1 is noise, and 0, which is never asked for, the chunk. It predicts x_r
    (``epsilon``), x_l (``sample``) or alpha x_r - sigma x_l (``v``); the loss is the error.

    Only a free block can be one: its ends are chunks and noise. ``ddpm``, ``ddim`` and
    ``dpmsolver++`` are steps of the schedulers of `diffusers`. All of them make a chunk a function
    of observation and starting noise: the noise that steps of DDPM add is drawn for each row from
    a generator that is seeded by the numbers of its starting noise. So chunks do not depend on the
    batch or on what was sampled before, and noise of the scale 0 makes even DDPM one function of
    the observation. ``noise_scale`` scales the starting noise alone; 1 is the model's own.

    The other solvers integrate its flow (Schusterbauer et al., "Diff2Flow", arXiv:2506.02221): with
    t = sigma / (alpha + sigma) the point x_t = x_tau / (alpha + sigma) lies on the straight path
    (1 - t) x_l + t x_r, whose velocity is (x_t - x_l) / t with the predicted x_l. Every t in (0, 1)
    is one pair (alpha, sigma) on the circle; between two integer tau the network's time is linear
    in t. Below the t of tau = 0 and above that of T - 1 it is asked there.
    """

    default_solver = "ddim"
    same_work = True
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(config)
        self._samplers: dict[tuple[str, int], Sampler] = {}

    # -- training ------------------------------------------------------------------------------

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
        """Return the mean error of the prediction over the batch, a scalar.

        tau is the integer part of T t, so that times of training other than uniform mean the same.

        Raises:
            InputError: the block is not free.
        """
        _check_free(path)
        steps, scheduler = self.config.train_steps, self._training
        tau = (sample.t * steps).long().clamp(max=steps - 1)
        x = scheduler.add_noise(sample.x_l, sample.x_r, tau)
        target = {
            "epsilon": lambda: sample.x_r,
            "sample": lambda: sample.x_l,
            "v": lambda: scheduler.get_velocity(sample.x_l, sample.x_r, tau),
        }[self.config.prediction]()
        output = network(x, (tau + 1).to(sample.t.dtype) / steps, cond)
        return self.chunk_errors(output, target).mean()

    # -- sampling ------------------------------------------------------------------------------

    def check_solver(self, solver: SolverSpec) -> None:
        """Check that a solver can sample from the method.

        Raises:
            InputError: it belongs to another method, or has more steps than there are in training,
                or times at which steps end.
        """
        super().check_solver(solver)
        if not self._owns(solver):
            return
        if solver.n_steps > self.config.train_steps:
            raise InputError(
                f"solver {solver.name}: {solver.n_steps} steps are more than the "
                f"{self.config.train_steps} of training (flow.method.train_steps); ask for fewer"
            )

    def run(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        path: BlockPath,
        *,
        t_start: float,
        t_end: float,
        solver: SolverSpec,
        return_path: bool = False,
    ) -> OdeResult:
        """Take x (B, *chunk_shape) from one time of the block to another; see `Method.run`.

        The states of a path are those of the scheduler, alpha x_l + sigma x_r.

        Raises:
            InputError: the block is not free, or a scheduler is asked for a part of it, for the way
                from data to noise, or for more steps than there are in training.
        """
        _check_free(path)
        self.check_solver(solver)
        if not self._owns(solver):
            return super().run(
                network,
                x,
                cond,
                path,
                t_start=t_start,
                t_end=t_end,
                solver=solver,
                return_path=return_path,
            )
        if (t_start, t_end) != (1.0, 0.0):
            raise InputError(
                f"solver {solver.name}: it goes from noise to data (t = 1 to 0) and not from "
                f"{t_start:g} to {t_end:g}; choose euler, midpoint, heun or dopri5"
            )
        counted = CountedVelocity(network)
        found = self._sampler(solver)
        scheduler = found.fresh()
        noise = {"generator": row_generators(x)} if found.random and len(x) else {}
        states = [x]
        for tau in found.timesteps:
            output = counted(x, time_like(x, (tau + 1) / self.config.train_steps), cond)
            if found.wants_data:
                # Of the training, whose tables are never moved to another device here.
                kept = float(self._alphas_cumprod[tau])
                output = self._data(output, x, kept**0.5, (1 - kept) ** 0.5)
            x = scheduler.step(output, tau, x, **noise).prev_sample
            if return_path:
                states.append(x)
        return OdeResult(x, counted.nfe, torch.stack(states) if return_path else None)

    # -- the flow ------------------------------------------------------------------------------

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Return the velocity of the flow; see the class.

        Raises:
            InputError: the block is not free.
        """
        _check_free(path)

        def velocity(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            times = self._times.to(t)
            t = torch.clamp(t, times[0], times[-1])
            passed = (t[:, None] - times[:-1]) / (times[1:] - times[:-1])
            tau = passed.clamp(0, 1).sum(1)
            norm = torch.sqrt((1 - t) ** 2 + t**2)
            alpha, sigma = per_sample((1 - t) / norm, x), per_sample(t / norm, x)
            x_tau = x / per_sample(norm, x)
            output = network(x_tau, (tau + 1) / self.config.train_steps, cond)
            return (x - self._data(output, x_tau, alpha, sigma)) / per_sample(t, x)

        return velocity

    def network_of(self, velocity: Velocity, dtype: torch.dtype | None = None) -> Network:
        """Return the network whose flow has a velocity, the other way round than `velocity`.

        Args:
            velocity: of a free block with the linear path.
            dtype: to compute in; that of x when None.
        """

        def network(x: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
            given, x = x, x.to(dtype)
            times = self._times.to(x)
            steps = torch.arange(len(times) - 1, device=x.device, dtype=x.dtype)
            passed = (time.to(x)[:, None] * len(times) - 1 - steps).clamp(0, 1)
            t = times[0] + (passed * (times[1:] - times[:-1])).sum(1)
            norm, t_of = per_sample(torch.sqrt((1 - t) ** 2 + t**2), x), per_sample(t, x)
            x_t = x * norm
            v = velocity(x_t, t, cond)
            data, noise = x_t - t_of * v, x_t + (1 - t_of) * v
            v_prediction = ((1 - t_of) * noise - t_of * data) / norm
            answers = {"epsilon": noise, "sample": data, "v": v_prediction}
            return answers[self.config.prediction].to(given)

        return network

    # -- inside --------------------------------------------------------------------------------

    def _owns(self, solver: SolverSpec) -> bool:
        return SOLVERS.get(solver.name).method == self.config.name

    def _data(
        self, output: Tensor, x: Tensor, alpha: Tensor | float, sigma: Tensor | float
    ) -> Tensor:
        """Return the clean chunk that an answer at x = alpha x_l + sigma x_r means."""
        if self.config.prediction == "epsilon":
            data = (x - sigma * output) / alpha
        elif self.config.prediction == "v":
            data = alpha * x - sigma * output
        else:
            data = output
        most = self.config.clip_range
        return data.clamp(-most, most) if self.config.clip_sample else data

    def _sampler(self, solver: SolverSpec) -> Sampler:
        key = (solver.name, solver.n_steps)
        if key not in self._samplers:
            self._samplers[key] = sampler(self.config, *key)
        return self._samplers[key]

    @cached_property
    def _training(self) -> Any:
        return training_scheduler(self.config)

    @cached_property
    def _alphas_cumprod(self) -> tuple[float, ...]:
        return tuple(self._training.alphas_cumprod.double().tolist())

    @cached_property
    def _times(self) -> Tensor:
        """Times t of the flow at the integer times, (T,) float64, growing."""
        with torch.inference_mode(False):
            kept = torch.tensor(self._alphas_cumprod, dtype=torch.float64)
            return (1 - kept).sqrt() / (kept.sqrt() + (1 - kept).sqrt())


def _check_free(path: BlockPath) -> None:
    if not path.step.is_free:
        raise InputError(
            "the method 'diffusion' leads from noise to chunks: its block has to be the free one, "
            "the only one of its chain (flow.n_blocks=1)"
        )
