"""What a block's network predicts: the target of its loss, and its output read as a velocity.

Another parametrisation is one class here and one line in the table; nothing else in the package
has to know what the networks' outputs mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from lfm_policy.flow.interpolant import Interpolant, PathSample
from lfm_policy.flow.schedule import OUStep
from lfm_policy.flow.velocity import Velocity, per_sample
from lfm_policy.registry import Registry

SMALLEST_TIME = 1e-2
"""Below this time the velocity of a predicted chunk is taken at this time: at t = 0 the chunk is
known already, and its velocity is 0 / 0."""


class Prediction(ABC):
    """A parametrisation of a block's velocity field."""

    @abstractmethod
    def target(self, x_l: Tensor, path: PathSample) -> Tensor:
        """Return what the network's output is regressed on, shape of ``x_l``."""

    @abstractmethod
    def as_velocity(self, network: Velocity, step: OUStep, interpolant: Interpolant) -> Velocity:
        """Return the velocity field that the network's output stands for."""

    def output(self, network: Velocity, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the network's output at x (B, *chunk_shape) and t (B,)."""
        return network(x, t, cond)


class VelocityPrediction(Prediction):
    """The output is the velocity itself; its target is the derivative of the path."""

    def target(self, x_l: Tensor, path: PathSample) -> Tensor:
        """Return dx_t."""
        return path.dx_t

    def as_velocity(self, network: Velocity, step: OUStep, interpolant: Interpolant) -> Velocity:
        """Return the network unchanged."""
        return network


class DataPrediction(Prediction):
    """The output is E[x_l | I_t], the clean chunk.

    On the path I_t = data x_l + noise x_r it fixes the other end, E[x_r | I_t] =
    (I_t - data E[x_l | I_t]) / noise, and with both ends the velocity.
    """

    def target(self, x_l: Tensor, path: PathSample) -> Tensor:
        """Return x_l."""
        return x_l

    def as_velocity(self, network: Velocity, step: OUStep, interpolant: Interpolant) -> Velocity:
        """Return the velocity that leads from the predicted chunk to the state and on."""

        def velocity(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            t = t.clamp(min=SMALLEST_TIME)
            chunk = self.output(network, x, t, cond)
            return interpolant.velocity_towards(chunk, x, t)

        return velocity


class RegressionPrediction(DataPrediction):
    """The clean chunk, and at t = 1 predicted from the observation alone.

    There the network sees zeros in place of the noise. With one time t = 1 this is plain
    regression; with t = 1 and t = 0.1 it is the two-step regression ("MIP") of Pan et al., "Much
    Ado About Noising", arXiv:2512.01809.
    """

    def output(self, network: Velocity, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the network's output, with x replaced by 0 where t = 1."""
        return network(x * per_sample((t < 1).to(x.dtype), x), t, cond)


PREDICTIONS: Registry[Prediction] = Registry(
    "prediction",
    {
        "velocity": VelocityPrediction(),
        "data": DataPrediction(),
        "regression": RegressionPrediction(),
    },
)
