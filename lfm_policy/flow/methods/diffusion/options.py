"""Options of diffusion; light to import, like those of the other methods."""

from __future__ import annotations

import math
from typing import ClassVar

from lfm_policy.errors import OptionError
from lfm_policy.flow.methods.options import ErrorConfig
from lfm_policy.options import option, options

COSINE = "squaredcos_cap_v2"
ENOUGH_LINEAR_NOISE = 5.0
"""Sum of the noises of a linear schedule, which those of 500 steps are: with less it ends in data,
for the usual ones are made for 1,000 steps."""


@options
class DiffusionConfig(ErrorConfig):
    """Options of diffusion; the defaults are those of Diffusion Policy."""

    BUILDS: ClassVar[str] = "lfm_policy.flow.methods.diffusion.method:DiffusionMethod"
    LEARNING: ClassVar[tuple[str, ...]] = (
        *ErrorConfig.LEARNING,
        "clip_sample",
        "clip_range",
        "clip_any",
        "spacing",
    )
    single_block: ClassVar[bool] = True

    name: str = option(
        "diffusion",
        "what networks learn and how they move a chunk: "
        "diffusion is the noise, or the chunk in it, at integer times",
        choices=["diffusion"],
    )
    prediction: str = option(
        "epsilon",
        "what networks predict: epsilon (the noise), sample (the clean chunk) or v, a mixture of "
        "both that is as easy at every time",
        common=True,
        choices=["epsilon", "sample", "v"],
    )
    beta_schedule: str = option(
        COSINE,
        "how noise grows over the steps, by its name in diffusers; the linear ones are made for "
        "1,000 train_steps",
        choices=[COSINE, "linear", "scaled_linear"],
    )
    train_steps: int = option(
        100, "steps from data to noise in training (num_train_timesteps)", ge=2, le=10_000
    )
    beta_start: float = option(
        0.0001, "noise of the first step, of the linear schedules", gt=0, lt=1
    )
    beta_end: float = option(0.02, "noise of the last step, of the linear schedules", gt=0, lt=1)
    clip_sample: bool = option(
        True,
        "clip the clean chunk that a step predicts to [-1, 1], where all actions are with "
        "normalization.action 'limits'",
    )
    clip_range: float = option(1.0, "what clip_sample clips to, on both sides of 0", gt=0, le=1_000)
    clip_any: bool = option(
        False,
        "whether clip_sample may cut off actions that are scaled otherwise, or to a range below 1, "
        "as policies are that were imported so",
    )
    spacing: str = option(
        "",
        "which of the train_steps a sampler of fewer steps visits, by its name in diffusers "
        "(timestep_spacing): trailing and linspace begin at the noise itself, leading where the "
        "last stride begins; empty: leading for ddpm and ddim, linspace for dpmsolver++",
        choices=["", "leading", "linspace", "trailing"],
    )

    def __post_init__(self) -> None:
        noise = (self.beta_start + self.beta_end) / 2
        least = math.ceil(ENOUGH_LINEAR_NOISE / noise)
        if self.beta_schedule != COSINE and self.train_steps < least:
            raise OptionError(
                "train_steps",
                f"is {self.train_steps} with beta_schedule '{self.beta_schedule}', which then does "
                f"not end in noise; expected at least {least}, or {COSINE}",
            )
        if self.clip_sample and self.clip_range < 1 and not self.clip_any:
            raise OptionError(
                "clip_range",
                f"is {self.clip_range}, expected at least 1, where actions end that are scaled to "
                "[-1, 1], or flow.method.clip_any=true",
            )

    @property
    def needs_limits(self) -> bool:
        """Whether chunks beyond [-1, 1] are cut off."""
        return self.clip_sample and not self.clip_any
