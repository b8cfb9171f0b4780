"""Observations a little beside the recorded ones, so that a policy knows what to do there."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from lfm_policy.config.training import TrainingConfig
from lfm_policy.training.rows.joined import Windows

MAX_WINDOWS = 65_536
"""A covariance needs no more, however large the dataset."""

SMALLEST_VARIANCE = 1e-10
"""Share of the largest variance below which a direction counts as one that never varies."""


class ObsNoise:
    """Adds normal noise to normalised low-dimensional observations, not to images or the task.

    With the covariance ``identity`` every number gets its own noise. Observations are often not
    free like that: corners of a body move together, two frames of a history differ by what can
    move in one step. With ``data`` the noise has the covariance of the windows' observations,
    taken over all keys and frames, so a displaced observation keeps every linear relation that
    all recorded ones have. In both, the noise is scaled by ``training.obs_noise``.
    """

    def __init__(self, options: TrainingConfig, windows: Windows) -> None:
        """Keep what is needed; the covariance is computed when noise is first asked for.

        Args:
            options: scale and covariance of the noise.
            windows: whose observations the noise shall look like.
        """
        self.scale = options.obs_noise
        self.shaped = options.obs_noise_covariance == "data"
        self._windows = windows
        self._moved: Tensor | None = None

    def __bool__(self) -> bool:
        """Whether there is any noise."""
        return self.scale > 0

    def displace(
        self, obs: dict[str, Tensor], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return observations with noise.

        Args:
            obs: key -> (B, n_obs_steps, ...), normalised; cameras and the task are passed on.
            generator: of random numbers on the CPU; by default torch's global one of the device.
        """
        exact = {*self._windows.image_keys, *self._windows.exact_keys}
        low_dim = {key: value for key, value in obs.items() if key not in exact}
        if not self or not low_dim:
            return obs
        if self.shaped:
            noise = self._shaped_noise(low_dim, generator)
        else:
            noise = {key: _normal(v.shape, v.device, generator) for key, v in low_dim.items()}
        return obs | {key: value + self.scale * noise[key] for key, value in low_dim.items()}

    def _shaped_noise(
        self, obs: dict[str, Tensor], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        first = next(iter(obs.values()))
        factor = self._factor_on(first.device)
        flat = _normal((len(first), len(factor)), first.device, generator) @ factor
        sizes = [math.prod(value.shape[1:]) for value in obs.values()]
        parts = flat.split(sizes, dim=1)
        return {k: part.view_as(obs[k]) for k, part in zip(obs, parts, strict=True)}

    def _factor_on(self, device: torch.device) -> Tensor:
        if self._moved is None or self._moved.device != device:
            self._moved = self._factor.to(device)
        return self._moved

    @cached_property
    def _factor(self) -> Tensor:
        """(r, D) with factor^T factor = the covariance of the D numbers of a window."""
        windows = self._windows
        count = min(len(windows), MAX_WINDOWS)
        idx = torch.linspace(0, len(windows) - 1, count, dtype=torch.float64).long()
        obs = windows.gather_obs(idx, images=False)
        moved = [value for key, value in obs.items() if key not in windows.exact_keys]
        flat = torch.cat([value.flatten(1) for value in moved], dim=1).double()
        flat = flat - flat.mean(0)
        variances, directions = torch.linalg.eigh(flat.T @ flat / count)
        kept = variances > SMALLEST_VARIANCE * variances.max()
        return (directions[:, kept] * variances[kept].sqrt()).T.float()


def _normal(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    if generator is None:
        return torch.randn(shape, device=device)
    return torch.randn(shape, generator=generator).to(device)
