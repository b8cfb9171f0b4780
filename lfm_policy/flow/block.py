"""One block (sub-flow) of a local flow: a network, a path, and a method that joins the two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lfm_policy.flow.choices import COUPLINGS, INTERPOLANTS, METHODS
from lfm_policy.flow.guidance import GUIDED_EVALUATIONS, GuidedNetwork, OptionalCondition
from lfm_policy.flow.methods.base import BlockPath, Method
from lfm_policy.flow.methods.options import MethodConfig
from lfm_policy.flow.paths.coupling import Coupling, dependent, independent, shuffled
from lfm_policy.flow.paths.interpolant import Interpolant, PathSample
from lfm_policy.flow.paths.schedule import OUStep
from lfm_policy.flow.paths.time_sampling import TimeSampler, UniformTime
from lfm_policy.flow.solvers import OdeResult, SolverSpec
from lfm_policy.flow.solvers.velocity import Network, Velocity, uncompiled


class FlowBlock(nn.Module):
    """The flow between p_{n-1} (t = 0, data side) and p_n (t = 1, noise side)::

        block = FlowBlock(network, OUStep(0.1))
        block.loss(x_l, cond).backward()
        x_r = block.run(x_l, cond, t_start=0, t_end=1, solver=SolverSpec("heun", 8)).x

    Each block has its own interpolant, coupling, time sampler and method, so that the blocks of
    one chain may differ.

    Attributes:
        network: the callable that was given; its parameters are the block's if it is a module.
        path: the OU step whose end the block reaches at t = 1, and the way there.
        method: how the network is asked and what it is trained on.
    """

    def __init__(
        self,
        network: Network,
        step: OUStep,
        interpolant: Interpolant | str = "linear",
        coupling: Coupling | str = "dependent",
        time_sampler: TimeSampler | None = None,
        method: Method | MethodConfig | str = "velocity",
    ) -> None:
        """Build a block.

        Args:
            network: ``f(x, t, cond)``, output shape that of x (B, *chunk_shape). It is not
                copied; the block sees every later change of its parameters.
            step: the OU step of the block.
            interpolant: an interpolant or its name.
            coupling: a coupling or its name.
            time_sampler: distribution of the training times; uniform by default.
            method: a method, its options, or its name.

        Raises:
            InputError: a name is unknown.
            ValueError: the network takes another number of times than the method asks with.
        """
        super().__init__()
        self.network = network
        self.path = BlockPath(
            step, INTERPOLANTS.get(interpolant) if isinstance(interpolant, str) else interpolant
        )
        if isinstance(method, str):
            method = METHODS.get(method)()
        self.method = method.create() if isinstance(method, MethodConfig) else method
        n_times = getattr(network, "n_times", self.method.n_times)
        if n_times != self.method.n_times:
            raise ValueError(
                f"the network takes {n_times} time(s), the method asks with {self.method.n_times}"
            )
        self._couple = COUPLINGS.get(coupling) if isinstance(coupling, str) else coupling
        self._times = UniformTime() if time_sampler is None else time_sampler

    @property
    def step(self) -> OUStep:
        """The OU step of the block."""
        return self.path.step

    @property
    def interpolant(self) -> Interpolant:
        """The way between the two ends of a training pair."""
        return self.path.interpolant

    @property
    def velocity(self) -> Velocity:
        """The velocity field of the block.

        Raises:
            InputError: the method's networks stand for none.
        """
        return self.method.velocity(self.network, self.path)

    @property
    def same_work(self) -> bool:
        """Whether the loss is the same work for every batch, see `Method.same_work`."""
        return self.method.same_work and self._couple in (dependent, shuffled, independent)

    @property
    def needs_other(self) -> bool:
        """Whether the loss needs ``x_other``, a second batch."""
        return self._couple is independent and not self.step.is_free

    def noise_end(
        self,
        x_l: Tensor,
        cond: Tensor | None = None,
        *,
        x_other: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the x_r (B, *chunk_shape) that the coupling pairs with ``x_l``; see `loss`."""
        return self._couple(x_l, self.step, cond=cond, x_other=x_other, generator=generator)

    def path_sample(
        self,
        x_l: Tensor,
        cond: Tensor | None = None,
        *,
        x_other: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PathSample:
        """Draw x_r and t for every sample of ``x_l`` (B, *chunk_shape); return I_t and dI_t/dt."""
        x_r = self.noise_end(x_l, cond, x_other=x_other, generator=generator)
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
        average: Network | None = None,
    ) -> Tensor:
        """Return the method's loss of a batch, a scalar.

        The network may be one that learns without the conditions of some rows, see
        `OptionalCondition`.

        Args:
            x_l: samples of p_{n-1}, shape (B, *chunk_shape).
            cond: the encoded observations of these samples, shape (B, cond_dim), or None.
            x_other: a second batch like ``x_l``, for the independent coupling only.
            generator: source of z and t; torch's global one when None.
            average: the network with the EMA of its weights, for methods that ask it; the network
                itself when None.

        Raises:
            ValueError: the network's output has another shape than ``x_l``, or the coupling
                lacks ``x_other``.
        """
        sample = self.path_sample(x_l, cond, x_other=x_other, generator=generator)
        # After it: ends are paired by what is observed, told or not.
        network = uncompiled(self.network)
        if isinstance(network, OptionalCondition):
            cond = network.dropped(cond, generator)
        return self.method.loss(
            self.network, sample, cond, self.path, average=average, generator=generator
        )

    def run(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        *,
        t_start: float,
        t_end: float,
        solver: SolverSpec,
        return_path: bool = False,
    ) -> OdeResult:
        """Take x (B, *chunk_shape) from one time of the block to another; see `Method.run`."""
        result = self.method.run(
            self.network,
            x,
            cond,
            self.path,
            t_start=t_start,
            t_end=t_end,
            solver=solver,
            return_path=return_path,
        )
        return result._replace(nfe=result.nfe * self.evaluations_per_answer)

    def evaluations(self, solver: SolverSpec) -> int | None:
        """Return the evaluations of the network that `run` takes; None where the solver decides."""
        count = self.method.evaluations(solver)
        return None if count is None else count * self.evaluations_per_answer

    @property
    def evaluations_per_answer(self) -> int:
        """Evaluations of the network for each of its answers; guided ones take two."""
        return GUIDED_EVALUATIONS if isinstance(self.network, GuidedNetwork) else 1
