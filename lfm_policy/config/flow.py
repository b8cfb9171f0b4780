"""Options of the chain of blocks, of sampling from it and of pushing data forward through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lfm_policy.errors import Key, OptionError
from lfm_policy.options import Chosen, option, options, with_changes

METHOD = Chosen("method", "velocity")

if TYPE_CHECKING:
    from lfm_policy.flow import Method, SolverSpec
    from lfm_policy.flow.methods.options import MethodConfig
else:  # of the class that its name chooses, which is imported when it is needed
    MethodConfig = Annotated[Any, METHOD]

Time = Annotated[float, Field(ge=0, le=1)]

Evaluations = int | Sequence[int]
"""Network evaluations per chunk: over all blocks, or of each block, block 1 first."""
StepTimes = Sequence[float] | Sequence[Sequence[float]]
"""Times inside blocks at which steps end: for every block, or of each block, block 1 first."""

MAXIMUM_NFE = 100_000
MAXIMUM_GUIDANCE = 20


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
class SamplerConfig:
    """How a chunk is sampled when nothing else is asked for."""

    solver: str = option("", "ODE solver; empty: the one of flow.method", choices="solver")
    nfe: int = option(
        16,
        "network evaluations per chunk over all blocks (fixed-step solvers): fewer take less time "
        "and are less exact; `distill` makes policies of one or two",
        common=True,
        ge=1,
        le=MAXIMUM_NFE,
    )
    block_nfe: list[Annotated[int, Field(ge=1, le=MAXIMUM_NFE)]] = option(
        [],
        "network evaluations of each block, block 1 (data side) first, instead of `nfe` spread "
        "evenly; `nfe` becomes their sum",
    )
    rtol: float = option(1e-4, "relative tolerance of dopri5", ge=1e-12, le=1)
    atol: float = option(1e-4, "absolute tolerance of dopri5", ge=1e-12, le=1)
    times: list[Time] = option(
        [],
        "times inside every block, from the noise to the data, at which a step ends; used when "
        "a block has as many steps, which otherwise are equal",
    )
    block_times: list[list[Time]] = option(
        [],
        "such times for each block, block 1 (data side) first, instead of `times`: one fewer than "
        "the block has steps, or [] for equal steps",
    )
    noise_scale: float = option(
        0.6,
        "standard deviation of the noise that sampling starts from; below 1 chunks are nearer to "
        "the most likely one, and 0 makes the policy deterministic; 1 samples all that was "
        "demonstrated",
        common=True,
        ge=0,
        le=10,
    )
    renoise: float = option(
        0.0,
        "share of the noise of a block that a chunk is given before it, of each block but the one "
        "at the noise: what one evaluation makes has less of it than a block has learnt to expect; "
        "about 1 for one evaluation per block, 0 for many",
        ge=0,
        le=10,
    )
    guidance: float = option(
        1.0,
        "weight w of the observation, of a policy that was trained with flow.drop_obs: sampling "
        "follows (1 - w) times what the networks say without it and w times what they say with it, "
        "at two evaluations each; above 1 the observation counts for more",
        ge=0,
        le=MAXIMUM_GUIDANCE,
    )

    def __post_init__(self) -> None:
        _check_times("times", self.times)
        for n, times in enumerate(self.block_times):
            _check_times(("block_times", n), times)
        if self.block_nfe:
            self.nfe = sum(self.block_nfe)

    def changed(
        self,
        *,
        solver: str | None = None,
        nfe: Evaluations | None = None,
        times: StepTimes | None = None,
        noise_scale: float | None = None,
        renoise: float | None = None,
        guidance: float | None = None,
    ) -> SamplerConfig:
        """Return the options with some of them changed; None: as they are.

        Evaluations of one kind take the place of the other, and those that are given anew have
        none of the times that each block had; times of one kind take the place of the other.

        Raises:
            OptionError: a value is no value of its option.
        """
        asked: dict[str, Any] = {"solver": solver, "noise_scale": noise_scale}
        asked |= {"renoise": renoise, "guidance": guidance}
        if nfe is not None:
            nfe = plain_numbers(nfe)
            each = isinstance(nfe, list)
            asked |= {"block_nfe": nfe} if each else {"block_nfe": [], "nfe": nfe}
            asked["block_times"] = []
        if times is not None:
            times = plain_numbers(times)
            each = isinstance(times, list) and any(isinstance(part, list) for part in times)
            asked |= {"times": [] if each else times, "block_times": times if each else []}
        return with_changes(self, {key: v for key, v in asked.items() if v is not None})

    @staticmethod
    def merged_in(given: dict[str, Any]) -> dict[str, Any]:
        """Return options that later take the place of others, with what they take away of them.

        Evaluations that are given anew have no others beside them, nor times for each block; times
        for every block have none for each beside them.
        """
        taken: dict[str, Any] = {}
        if {"nfe", "block_nfe"} & given.keys():
            taken = {"block_nfe": [], "block_times": []}
        elif "times" in given:
            taken = {"block_times": []}
        return {**taken, **given}

    def solvers(self, n_blocks: int, *, method: Method) -> list[SolverSpec]:
        """Return the solver of each block, block 1 first.

        Evaluations are spread evenly unless there are some for each block. What is left over goes
        to the blocks nearest the noise, which have the longest way to go.

        Raises:
            OptionError: the evaluations are too few for one step in every block, or not whole
                steps, of which ``method`` and guidance say what they cost; or options for each
                block are not for as many blocks, or times for another number of steps or for a
                solver whose steps have none.
            InputError: the method cannot be sampled so, see `lfm_policy.flow.Method.check_solver`.
        """
        from lfm_policy.flow import SOLVERS, SolverSpec  # imports torch

        name = self.solver or method.default_solver
        steps = self._steps(name, n_blocks, method)
        if steps is None:
            solvers = [SolverSpec(name, rtol=self.rtol, atol=self.atol)] * n_blocks
        else:
            every = self.times
            times = self.block_times or [every if len(every) == n - 1 else [] for n in steps]
            if any(times) and SOLVERS.get(name).step is None:
                raise OptionError(
                    "block_times" if self.block_times else "times",
                    f"are {self.block_times or every}, which mean nothing to steps at integer "
                    "times; expected none, or the solver euler, midpoint or heun",
                )
            solvers = [
                SolverSpec(name, count, rtol=self.rtol, atol=self.atol, times=tuple(part))
                for count, part in zip(steps, times, strict=True)
            ]
        for solver in solvers:
            method.check_solver(solver)
        return solvers

    def _steps(self, solver: str, n_blocks: int, method: Method) -> list[int] | None:
        """Return how many steps each block has, block 1 first; None where the solver decides."""
        from lfm_policy.flow import SolverSpec  # imports torch
        from lfm_policy.flow.guidance import evaluations_per_step

        per_step = method.evaluations(SolverSpec(solver))
        if per_step is None:
            return None
        per_step *= evaluations_per_step(self.guidance)
        for key in ("block_nfe", "block_times"):
            if (given := getattr(self, key)) and len(given) != n_blocks:
                raise OptionError(
                    key, f"has {len(given)} elements, expected one for each of {n_blocks} block(s)"
                )
        guided = "" if self.guidance == 1 else f" with guidance {self.guidance:g}"
        cost = f"one step of '{solver}'{guided} takes {per_step} evaluation(s)"
        for n, nfe in enumerate(self.block_nfe):
            if nfe % per_step:
                raise OptionError(
                    ("block_nfe", n), f"is {nfe}, expected a multiple of {per_step}: {cost}"
                )
        smallest = n_blocks * per_step
        if self.nfe < smallest or self.nfe % per_step:
            raise OptionError(
                "nfe",
                f"is {self.nfe}, expected a multiple of {per_step} of at least {smallest}: "
                f"{n_blocks} block(s), and {cost}",
            )
        steps = [nfe // per_step for nfe in self.block_nfe]
        if not steps:
            each, left_over = divmod(self.nfe // per_step, n_blocks)
            steps = [each + (n >= n_blocks - left_over) for n in range(n_blocks)]
        for n, (times, count) in enumerate(zip(self.block_times, steps, strict=False)):
            if times and len(times) != count - 1:
                raise OptionError(
                    ("block_times", n),
                    f"has {len(times)} elements, expected {count - 1}, one fewer than block "
                    f"{n + 1} has steps, or none for equal steps",
                )
        return steps


def check_guidance(weight: float, drop_obs: float, *, key: str | Key) -> None:
    """Check the weight of the observation in sampling.

    Raises:
        OptionError: it is other than 1 with networks that never had to do without an observation;
            ``key`` is what to call it.
    """
    if weight != 1 and not drop_obs:
        raise OptionError(
            key,
            f"is {weight:g}, expected 1: flow.drop_obs is 0, so the networks have not learned what "
            "to do without an observation; train with flow.drop_obs=0.1 (a student learns from a "
            "guided teacher instead, see distill.teacher_guidance)",
        )


def _check_times(key: str | Key, times: Iterable[float]) -> None:
    """Check that times decrease from 1 to 0."""
    if any(later >= earlier for earlier, later in pairwise((1.0, *times, 0.0))):
        raise OptionError(
            key, f"are {times}; expected numbers between 1 and 0, each below the last"
        )


def plain_numbers(value: Any) -> Any:
    """Return a number or sequences of them, also of numpy, as numbers and lists of Python."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_numbers(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


@options
class PushForwardConfig:
    """Integration of the training set through a trained block."""

    solver: str = option("dopri5", "ODE solver", choices="solver")
    n_steps: int = option(32, "steps of a fixed-step solver", ge=1, le=10_000)
    rtol: float = option(1e-4, "relative tolerance of dopri5", ge=1e-12, le=1)
    atol: float = option(1e-4, "absolute tolerance of dopri5", ge=1e-12, le=1)
    batch_size: int = option(2048, "chunks integrated together", ge=1, le=1_000_000)
    checkpoint_every: int = option(8, "batches between checkpoints", ge=1)
