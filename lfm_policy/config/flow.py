"""Options of the chain of blocks, and of pushing data forward through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lfm_policy.config.sampler import Time
from lfm_policy.errors import OptionError
from lfm_policy.options import Chosen, option, options

METHOD = Chosen("method", "velocity")

if TYPE_CHECKING:
    from lfm_policy.flow.methods.options import MethodConfig
else:  # of the class that its name chooses, which is imported when it is needed
    MethodConfig = Annotated[Any, METHOD]


@options
class TimeConfig:
    """Distribution of the time t inside a block during training."""

    name: str = option("uniform", "distribution of t", choices="time sampler")
    alpha: float = option(1.0, "first parameter of the Beta distribution", ge=1e-3)
    beta: float = option(1.0, "second parameter of the Beta distribution", ge=1e-3)
    points: list[Time] = option([], "the times of `points`")
    noise_share: float = option(
        0.0,
        "share of the training pairs at t = 1, the noise side of a block, where alone it is asked "
        "when a chunk takes one evaluation per block; the others have times of this distribution",
        common=True,
        ge=0,
        le=1,
    )

    def __post_init__(self) -> None:
        if (self.name == "points") != bool(self.points):
            raise OptionError(
                "name",
                f"is '{self.name}' and points is {self.points}: expected both name=points and a "
                "list of times, or neither",
            )


@options
class FlowConfig:
    """The chain of blocks (arXiv:2410.02548, Algorithm 1). ``n_blocks: 1`` is flow matching."""

    n_blocks: int = option(
        3, "number N of blocks; 1 is flow matching with one network", common=True, ge=1, le=64
    )
    c: float = option(0.01, "first OU time step, gamma_n = c * rho**(n-1)", ge=1e-9, le=50)
    rho: float = option(10.0, "ratio of consecutive OU time steps", ge=1e-3, le=100)
    step_sizes: list[Annotated[float, Field(ge=1e-9, le=50)]] = option(
        [], "OU time steps of blocks 1..N-1, instead of c and rho (which give 0.01, 0.1, 1, ...)"
    )
    interpolant: str = option("linear", "path inside a block", choices="interpolant")
    block_interpolants: list[str] = option(
        [], "interpolant of each block, instead of `interpolant`", choices="interpolant"
    )
    coupling: str = option(
        "dependent",
        "how the two ends of a block are paired in training: dependent is the paper's; optimal "
        "pairs those of a batch that are near each other, so that paths are shorter",
        choices="coupling",
    )
    coupling_weight: float = option(
        1.0,
        "how much the coupling `optimal` keeps to pairs whose observations are near each other: "
        "the weight of their square distance against that of the two ends, each in units of its "
        "mean over the batch; 0 ignores observations, and policies then know less of them",
        ge=0,
        le=1e9,
    )
    method: MethodConfig = option(METHOD.defaults, "what networks learn, how they move a chunk")
    time: TimeConfig = option(TimeConfig, "distribution of t in training")
    drop_obs: float = option(
        0.0,
        "share of the training pairs whose observation is left out (a learned vector stands in for "
        "it), which `sampler.guidance` needs; 0.1 is usual",
        ge=0,
        le=0.9,
    )

    def __post_init__(self) -> None:
        if self.method.single_block:
            self._check_single_block()
        if self.step_sizes and len(self.step_sizes) != self.n_blocks - 1:
            raise OptionError(
                "step_sizes",
                f"has {len(self.step_sizes)} elements, expected n_blocks - 1 = "
                f"{self.n_blocks - 1} (the last block is free)",
            )
        if self.block_interpolants and len(self.block_interpolants) != self.n_blocks:
            raise OptionError(
                "block_interpolants",
                f"has {len(self.block_interpolants)} elements, expected n_blocks = {self.n_blocks}",
            )

    def _check_single_block(self) -> None:
        """Refuse what would mean nothing to a method that leads from noise to data in one."""
        expectations: list[tuple[str, Any]] = [("n_blocks", 1), ("coupling", "dependent")]
        expectations += [("interpolant", "linear"), ("block_interpolants", [])]
        for key, expected in expectations:
            if (found := getattr(self, key)) != expected:
                raise OptionError(
                    key,
                    f"is {found!r} with the method '{self.method.name}', which takes noise to "
                    f"chunks in one block, on a path of its own; expected {expected!r}",
                )


@options
class PushForwardConfig:
    """Integration of the training set through a trained block."""

    solver: str = option("dopri5", "ODE solver", choices="solver")
    n_steps: int = option(32, "steps of a fixed-step solver", ge=1, le=10_000)
    rtol: float = option(1e-4, "relative tolerance of dopri5", ge=1e-12, le=1)
    atol: float = option(1e-4, "absolute tolerance of dopri5", ge=1e-12, le=1)
    batch_size: int = option(2048, "chunks integrated together", ge=1, le=1_000_000)
    checkpoint_every: int = option(8, "batches between checkpoints", ge=1)
