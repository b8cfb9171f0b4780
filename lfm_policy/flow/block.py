"""One block (sub-flow) of a local flow: its velocity and the loss that trains it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lfm_policy.flow.coupling import COUPLINGS, Coupling, independent
from lfm_policy.flow.interpolant import INTERPOLANTS, Interpolant, PathSample
from lfm_policy.flow.prediction import PREDICTIONS, Prediction
from lfm_policy.flow.schedule import OUStep
from lfm_policy.flow.time_sampling import TimeSampler, UniformTime
from lfm_policy.flow.velocity import Velocity


class FlowBlock:
    """The flow between p_{n-1} (t = 0, data side) and p_n (t = 1, noise side).

    Each block has its own interpolant, coupling, time sampler and prediction, so that the blocks
    of one chain may differ.

    Attributes:
        network: the callable that was given, whose parameters are trained.
        velocity: the velocity field to integrate; the network itself for ``"velocity"``.
        step: the OU step whose end the block reaches at t = 1.
        interpolant: the path between the two ends of a training pair.
    """

    def __init__(
        self,
        velocity: Velocity,
        step: OUStep,
        interpolant: Interpolant | str = "linear",
        coupling: Coupling | str = "dependent",
        time_sampler: TimeSampler | None = None,
        prediction: Prediction | str = "velocity",
    ) -> None:
        """Build a block.

        Args:
            velocity: ``f(x, t, cond)``, output shape that of x (B, *chunk_shape). It is not
                copied; the block sees every later change of its parameters.
            step: the OU step of the block.
            interpolant: an interpolant or its name.
            coupling: a coupling or its name.
            time_sampler: distribution of the training times; uniform by default.
            prediction: what the output of ``velocity`` means, or the name of that.

        Raises:
            InputError: a name is unknown.
        """
        self.network = velocity
        self.step = step
        self.interpolant = (
            INTERPOLANTS.get(interpolant) if isinstance(interpolant, str) else interpolant
        )
        self._couple = COUPLINGS.get(coupling) if isinstance(coupling, str) else coupling
        self._times = UniformTime() if time_sampler is None else time_sampler
        self._prediction = (
            PREDICTIONS.get(prediction) if isinstance(prediction, str) else prediction
        )
        self.velocity = self._prediction.as_velocity(velocity, step, self.interpolant)

    @property
    def needs_other(self) -> bool:
        """Whether the loss needs ``x_other``, a second batch."""
        return self._couple is independent and not self.step.is_free

    def path_sample(
        self,
        x_l: Tensor,
        *,
        x_other: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PathSample:
        """Draw x_r and t for every sample of ``x_l`` (B, *chunk_shape); return I_t and dI_t/dt."""
        x_r = self._couple(x_l, self.step, x_other=x_other, generator=generator)
        t = self._times.sample(
            x_l.shape[0], generator=generator, device=x_l.device, dtype=x_l.dtype
        )
        return self.interpolant.interpolate(x_l, x_r, t)

    def loss(
        self,
        x_l: Tensor,
        cond: Tensor | None = None,
        *,
        x_other: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean square regression error of a batch, a scalar.

        E || v_n(I_t, t, O) - dI_t/dt ||^2, averaged over batch and entries.

        Args:
            x_l: samples of p_{n-1}, shape (B, *chunk_shape).
            cond: the encoded observations of these samples, shape (B, cond_dim), or None.
            x_other: a second batch like ``x_l``, for the independent coupling only.
            generator: source of z and t; torch's global one when None.

        Raises:
            ValueError: the network's output has another shape than ``x_l``, or the coupling
                lacks ``x_other``.
        """
        path = self.path_sample(x_l, x_other=x_other, generator=generator)
        target = self._prediction.target(x_l, path)
        output = self._prediction.output(self.network, path.x_t, path.t, cond)
        if output.shape != target.shape:  # mse_loss would broadcast
            raise ValueError(
                f"the velocity returned shape {tuple(output.shape)} for x of shape "
                f"{tuple(x_l.shape)}; expected the same shape"
            )
        return F.mse_loss(output, target)
