"""The schedulers of diffusers that a diffusion model is trained and sampled with."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lfm_policy.flow.methods.diffusion.options import DiffusionConfig

CLIPPED_LOG_RATIO = -5.1
"""Least log(alpha / sigma) of DPM-Solver++, as diffusers asks for with the cosine schedule, whose
last step has so little of the data that no chunk can be told from it."""

PREDICTIONS = {"epsilon": "epsilon", "sample": "sample", "v": "v_prediction"}


@dataclass(frozen=True)
class Sampler:
    """A scheduler of diffusers for a number of steps, and where these are.

    Attributes:
        scheduler: never used itself: `fresh` returns one for a run, which may keep states in it.
        timesteps: integer times from the noise to the data.
        wants_data: whether a step takes the predicted clean chunk, whatever networks predict.
        random: whether steps draw noise.
    """

    scheduler: Any
    timesteps: tuple[int, ...]
    wants_data: bool
    random: bool

    def fresh(self) -> Any:
        """Return a scheduler at its first step."""
        scheduler = copy.copy(self.scheduler)
        if hasattr(scheduler, "model_outputs"):  # of the steps before, changed in place
            scheduler.model_outputs = list(scheduler.model_outputs)
        return scheduler


def training_scheduler(config: DiffusionConfig) -> Any:
    """Return the `DDPMScheduler` that says how noise is added."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    # Its tables may be needed for gradients later.
    with torch.inference_mode(False):
        return DDPMScheduler(**_noises(config))


def sampler(config: DiffusionConfig, solver: str, n_steps: int) -> Sampler:
    """Return ``ddpm``, ``ddim`` or ``dpmsolver++`` of ``n_steps``, at most ``train_steps``.

    DDPM has the posterior variance (``fixed_small``), DDIM eta = 0, DPM-Solver++ order 2 with as
    many multistep states.
    """
    # Here: diffusers takes seconds, and not all who know of this method sample with it.
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    options = _noises(config)
    if config.spacing:
        options["timestep_spacing"] = config.spacing
    with torch.inference_mode(False):
        scheduler: Any
        if solver == "dpmsolver++":
            # It clips by quantiles alone; so it gets a chunk that is clipped already.
            options |= {"prediction_type": "sample", "lambda_min_clipped": CLIPPED_LOG_RATIO}
            scheduler = DPMSolverMultistepScheduler(**options)
        else:
            options["clip_sample"] = config.clip_sample
            options["clip_sample_range"] = config.clip_range
            scheduler = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[solver](**options)
        scheduler.set_timesteps(n_steps)
        if solver == "dpmsolver++":
            scheduler.set_begin_index(0)
    timesteps = tuple(int(t) for t in scheduler.timesteps)
    return Sampler(scheduler, timesteps, solver == "dpmsolver++", solver == "ddpm")


def row_generators(x: Tensor) -> list[torch.Generator]:
    """Return a generator for every row of ``x`` (B, ...), seeded by the numbers of that row."""
    # Noise of the scale 0 has zeros of both signs: + 0.0 makes them one.
    rows = (x.detach().cpu() + 0.0).numpy()
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    seeds = [int.from_bytes(digest, "little", signed=True) for digest in digests]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _noises(config: DiffusionConfig) -> dict[str, Any]:
    return {
        "num_train_timesteps": config.train_steps,
        "beta_schedule": config.beta_schedule,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "prediction_type": PREDICTIONS[config.prediction],
    }
