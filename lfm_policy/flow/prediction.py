"""What a block's network predicts: the target of its loss, and its output read as a velocity.

Another parametrisation is one class here and one line in the table; nothing else in the package
has to know what the networks' outputs mean.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lfm_policy.flow.interpolant import Interpolant, PathSample
from lfm_policy.flow.schedule import OUStep
from lfm_policy.flow.velocity import Velocity
from lfm_policy.registry import Registry


class Prediction(Protocol):
    """A parametrisation of a block's velocity field."""

    def target(self, x_l: Tensor, path: PathSample) -> Tensor:
        """Return what the network's output is regressed on, shape of ``x_l``."""

    def as_velocity(self, network: Velocity, step: OUStep, interpolant: Interpolant) -> Velocity:
        """Return the velocity field that the network's output stands for."""


class VelocityPrediction:
    """The output is the velocity itself; its target is the derivative of the path."""

    def target(self, x_l: Tensor, path: PathSample) -> Tensor:
        """Return dx_t."""
        return path.dx_t

    def as_velocity(self, network: Velocity, step: OUStep, interpolant: Interpolant) -> Velocity:
        """Return the network unchanged."""
        return network


PREDICTIONS: Registry[Prediction] = Registry("prediction", {"velocity": VelocityPrediction()})
