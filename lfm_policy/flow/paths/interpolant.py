"""Paths I_t between a pair (x_l, x_r), t = 0 at the data side and t = 1 at the noise side."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lfm_policy.flow.solvers.velocity import per_sample


class Coefficients(NamedTuple):
    """Factors of I_t = data * x_l + noise * x_r and their time derivatives, each (B,)."""

    data: Tensor
    noise: Tensor
    d_data: Tensor
    d_noise: Tensor


class PathSample(NamedTuple):
    """Points on paths.

    Attributes:
        x_t: the points I_t, (B, *chunk_shape).
        dx_t: their time derivatives dI_t/dt, of the same shape.
        t: their times, (B,).
        x_l: the ends of the paths at the data side, (B, *chunk_shape).
        x_r: those at the noise side.
    """

    x_t: Tensor
    dx_t: Tensor
    t: Tensor
    x_l: Tensor
    x_r: Tensor


class Interpolant(ABC):
    """A path I_t = data(t) x_l + noise(t) x_r with I_0 = x_l and I_1 = x_r."""

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """Return the factors and their derivatives at times ``t`` (B,)."""

    def interpolate(self, x_l: Tensor, x_r: Tensor, t: Tensor) -> PathSample:
        """Return I_t and its derivative for x_l, x_r (B, *chunk_shape) and t (B,)."""
        data, noise, d_data, d_noise = (per_sample(c, x_l) for c in self.coefficients(t))
        return PathSample(data * x_l + noise * x_r, d_data * x_l + d_noise * x_r, t, x_l, x_r)

    def velocity_towards(self, x_l: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return dI_t/dt of the path that starts in ``x_l`` and passes through ``x_t`` at t > 0."""
        data, noise, d_data, d_noise = (per_sample(c, x_l) for c in self.coefficients(t))
        return d_data * x_l + d_noise * (x_t - data * x_l) / noise

    def data_end(self, x_t: Tensor, dx_t: Tensor, t: Tensor) -> Tensor:
        """Return the x_l of the path that passes through ``x_t`` with derivative ``dx_t``."""
        data, noise, d_data, d_noise = (per_sample(c, x_t) for c in self.coefficients(t))
        return (d_noise * x_t - noise * dx_t) / (d_noise * data - noise * d_data)


class LinearInterpolant(Interpolant):
    """I_t = (1 - t) x_l + t x_r, the straight ("optimal transport") path."""

    def coefficients(self, t: Tensor) -> Coefficients:
        """Return 1 - t, t, -1, 1."""
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)

    def interpolate(self, x_l: Tensor, x_r: Tensor, t: Tensor) -> PathSample:
        """Return I_t and x_r - x_l; the same as the general formula with a third of its work."""
        dx_t = x_r - x_l
        return PathSample(torch.addcmul(x_l, per_sample(t, x_l), dx_t), dx_t, t, x_l, x_r)


class TrigonometricInterpolant(Interpolant):
    """I_t = cos(pi t / 2) x_l + sin(pi t / 2) x_r: keeps the variance of independent unit pairs."""

    def coefficients(self, t: Tensor) -> Coefficients:
        """Return cos(pi t / 2), sin(pi t / 2) and their derivatives."""
        angle = t * (math.pi / 2)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return Coefficients(cos, sin, sin * (-math.pi / 2), cos * (math.pi / 2))


LINEAR, TRIGONOMETRIC = LinearInterpolant(), TrigonometricInterpolant()
