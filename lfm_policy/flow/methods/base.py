"""What a method is: a rule for one block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lfm_policy.flow.methods.error import chunk_squares, robust
from lfm_policy.flow.methods.options import ErrorConfig, MethodConfig
from lfm_policy.flow.paths.interpolant import Interpolant, PathSample
from lfm_policy.flow.paths.schedule import OUStep
from lfm_policy.flow.solvers import (
    OdeResult,
    SolverSpec,
    check_integrates,
    euler_step,
    integrate,
    integrate_steps,
)
from lfm_policy.flow.solvers.velocity import Network, Velocity


@dataclass(frozen=True)
class BlockPath:
    """Where a block leads: the OU step that it makes up, and the way between its two ends."""

    step: OUStep
    interpolant: Interpolant


class Method(ABC):
    """How the network of a block is asked, what it is trained on, and how it moves a chunk.

    A new method is a subclass in a file of this folder and its options in the list beside it;
    nothing else in the package knows what a network's output means. A method keeps nothing but its
    options: the network and the path of the block are given to every call.

    Attributes:
        n_times: how many times the network takes: 1, the time t of the chunk, or 2, also the time
            that its answer leads to. With two, ``network(x, t, cond)`` gets t (B, 2).
        asks_average: whether the loss asks ``average``, so that it has to be there.
        same_work: whether the loss is the same sequence of operations for every batch, with no
            look at their values and no random number but torch's, so that a GPU can record one
            gradient step and replay it.
        default_solver: name of the solver when a configuration says none.
    """

    n_times: ClassVar[int] = 1
    asks_average: ClassVar[bool] = False
    same_work: ClassVar[bool] = False
    default_solver: ClassVar[str] = "euler"

    def __init__(self, config: MethodConfig) -> None:
        """Keep the options."""
        self.config = config

    @abstractmethod
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
        """Return the loss of a batch, a scalar.

        Args:
            network: of the block.
            sample: points on the paths of training pairs, x_t (B, *chunk_shape).
            cond: (B, cond_dim) encoded observations, or None.
            path: of the block.
            average: the network with the EMA of its weights, without gradients; None where there
                is no EMA, as when a trained network is judged: then it is the network itself.
            generator: of what random numbers the loss itself draws; torch's global one when None.

        Raises:
            ValueError: the network's output has another shape than x_t.
        """

    @abstractmethod
    def step(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        t: float,
        t_next: float,
        path: BlockPath,
    ) -> Tensor:
        """Return where one evaluation takes x (B, *chunk_shape) from the time t to ``t_next``."""

    @abstractmethod
    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Return the velocity field that the network stands for.

        Raises:
            InputError: it stands for none.
        """

    def evaluations(self, solver: SolverSpec) -> int | None:
        """Return the network evaluations that a block takes; None where the solver decides."""
        return solver.nfe

    def check_solver(self, solver: SolverSpec) -> None:
        """Check that a solver can sample from the method.

        Raises:
            InputError: it belongs to another method.
        """
        check_integrates(solver.name, self.config.name)

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
        """Take x (B, *chunk_shape) from one time of the block to another.

        ``euler`` makes a `step` of the method in every step; the other solvers integrate its
        `velocity`.

        Raises:
            InputError: the method has no velocity that the solver could integrate, or the solver
                is another method's.
            FloatingPointError: an adaptive solver met a velocity that is not finite or too stiff.
        """
        times = {"t_start": t_start, "t_end": t_end}
        if solver.name != "euler":
            velocity = self.velocity(network, path)
            return integrate(velocity, x, cond, **times, solver=solver, return_path=return_path)

        def step(asked: Network, x: Tensor, cond: Tensor | None, t: float, t_next: float) -> Tensor:
            return self.step(asked, x, cond, t, t_next, path)

        return integrate_steps(
            step, network, x, cond, **times, solver=solver, return_path=return_path
        )


class ErrorMethod(Method):
    """A method whose loss is how far the network's output is from a target."""

    config: ErrorConfig

    def chunk_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return what each chunk's error counts for, (B,); see `robust`.

        Raises:
            ValueError: the two have different shapes.
        """
        check_output(output, target)
        squares = chunk_squares(output - target)
        return robust(squares, scale=self.config.error_scale, power=self.config.error_power)


class OdeMethod(ErrorMethod):
    """A method whose network stands for a velocity: a step of it is one of Euler's."""

    def step(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        t: float,
        t_next: float,
        path: BlockPath,
    ) -> Tensor:
        """Return x + (t_next - t) v(x, t)."""
        return euler_step(self.velocity(network, path), x, cond, t, t_next)


def check_output(output: Tensor, x: Tensor) -> None:
    """Check that a network answered in the shape in which it was asked.

    Raises:
        ValueError: it did not, and a mean square error would broadcast.
    """
    if output.shape != x.shape:
        raise ValueError(
            f"the network returned shape {tuple(output.shape)} for x of shape {tuple(x.shape)}; "
            "expected the same shape"
        )
