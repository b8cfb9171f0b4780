"""Observations a little beside the recorded ones, so that a policy knows what to do there."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from lfm_policy.config.training import TrainingConfig
from lfm_policy.training.rows.joined import Windows

MAX_WINDOWS = 65_536
"""A covariance needs no more, however large the dataset."""

MAX_NUMBERS = 2**26
"""Of windows that a covariance is taken of: half a gigabyte."""

WIDEST = 4096
"""Numbers of a window up to which the directions of a covariance are found."""

SMALLEST_VARIANCE = 1e-10
"""Share of the largest variance below which a direction counts as one that never varies."""


class ObsNoise:
    """Adds normal noise to normalised low-dimensional observations, not to images or the task.

    With the covariance ``identity`` every number gets its own noise. Observations are often not
    free like that: corners of a body move together, two frames of a history differ by what can
    move in one step. With ``data`` the noise has the covariance of the windows' observations,
    taken over all keys and frames, so a displaced observation keeps every linear relation that
    all recorded ones have. In both, the noise is scaled by ``training.obs_noise``.

    Where the features of a frozen encoder have taken the place of images, these get noise of
    ``training.feature_noise``, in units of what each of them varies by, or with the covariance that
    they have among themselves.
    """

    def __init__(self, options: TrainingConfig, windows: Windows) -> None:
        """Keep what is needed; the covariance is computed when noise is first asked for.

        Args:
            options: scale and covariance of the noise.
            windows: whose observations the noise shall look like.
        """
        self.scale = options.obs_noise
        self.feature_scale = options.feature_noise
        self.shaped = options.obs_noise_covariance == "data"
        self._windows = windows
        self._numbers = _Spread(windows, features=False)
        self._features = _Spread(windows, features=True)

    def __bool__(self) -> bool:
        """Whether there is any noise."""
        return self.scale > 0 or (self.feature_scale > 0 and self._windows.n_views > 0)

    def displace(
        self, obs: dict[str, Tensor], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return observations with noise.

        Args:
            obs: key -> (B, n_obs_steps, ...), normalised; images and the task are passed on.
            generator: of random numbers on the CPU; by default torch's global one of the device.
        """
        cameras = self._windows.image_keys
        exact = {*cameras, *self._windows.exact_keys}
        low_dim = {key: value for key, value in obs.items() if key not in exact}
        features = {key: obs[key] for key in cameras if obs[key].is_floating_point()}
        moved: dict[str, Tensor] = {}
        if self.scale and low_dim:
            if self.shaped:
                noise = self._numbers.shaped_noise(low_dim, generator)
            else:
                noise = {key: _normal(v.shape, v.device, generator) for key, v in low_dim.items()}
            moved |= {key: value + self.scale * noise[key] for key, value in low_dim.items()}
        if self.feature_scale and features:
            draw = self._features.shaped_noise if self.shaped else self._features.own_noise
            noise = draw(features, generator)
            moved |= {k: value + self.feature_scale * noise[k] for k, value in features.items()}
        return obs | moved if moved else obs


class _Spread:
    """How the numbers of windows, or the features of their images, vary."""

    def __init__(self, windows: Windows, *, features: bool) -> None:
        self._windows = windows
        self._features = features
        self._moved: dict[str, Tensor] = {}

    def own_noise(
        self, obs: dict[str, Tensor], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return noise of the variance that each number has."""
        device = next(iter(obs.values())).device
        parts = self._split(self._on(device, "spread"), obs)
        return {
            key: _normal(obs[key].shape, device, generator) * part.view(obs[key].shape[1:])
            for key, part in parts.items()
        }

    def shaped_noise(
        self, obs: dict[str, Tensor], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return noise of the covariance that all these numbers have."""
        first = next(iter(obs.values()))
        factor = self._on(first.device, "factor")
        flat = _normal((len(first), len(factor)), first.device, generator) @ factor
        return {key: part.view_as(obs[key]) for key, part in self._split(flat, obs).items()}

    @staticmethod
    def _split(flat: Tensor, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        sizes = [math.prod(value.shape[1:]) for value in obs.values()]
        return dict(zip(obs, flat.split(sizes, dim=-1), strict=True))

    def _on(self, device: torch.device, name: str) -> Tensor:
        if name not in self._moved or self._moved[name].device != device:
            self._moved[name] = getattr(self, name).to(device)
        return self._moved[name]

    @cached_property
    def spread(self) -> Tensor:
        """(D,), the standard deviation of each of the D numbers of a window."""
        return self._centred().square().mean(0).sqrt().float()

    @cached_property
    def factor(self) -> Tensor:
        """(r, D) with factor^T factor = the covariance of the D numbers of a window."""
        flat = self._centred()
        if flat.shape[1] > WIDEST:
            # That of fewer windows, without any directions to be found.
            rows = flat[torch.linspace(0, len(flat) - 1, min(len(flat), WIDEST)).long()]
            return (rows / math.sqrt(len(rows))).float()
        variances, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
        kept = variances > SMALLEST_VARIANCE * variances.max()
        return (directions[:, kept] * variances[kept].sqrt()).T.float()

    def _centred(self) -> Tensor:
        windows = self._windows
        width = self._flat(torch.zeros(1, dtype=torch.long)).shape[1]
        count = min(len(windows), MAX_WINDOWS, max(1, MAX_NUMBERS // width))
        idx = torch.linspace(0, len(windows) - 1, count, dtype=torch.float64).long()
        flat = self._flat(idx).double()
        return flat - flat.mean(0)

    def _flat(self, idx: Tensor) -> Tensor:
        windows = self._windows
        obs = windows.gather_obs(idx, images=self._features)
        cameras = set(windows.image_keys)
        keys = [k for k in obs if (k in cameras) == self._features and k not in windows.exact_keys]
        return torch.cat([obs[key].flatten(1) for key in keys], dim=1)


def without_noise(options: TrainingConfig) -> TrainingConfig:
    """Return the same options for what is observed exactly."""
    return replace(options, obs_noise=0.0, feature_noise=0.0)


def _normal(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    if generator is None:
        return torch.randn(shape, device=device)
    return torch.randn(shape, generator=generator).to(device)
