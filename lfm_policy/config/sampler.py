"""Options of sampling from the chain of blocks, and what callers may ask for instead of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack

from pydantic import Field

from lfm_policy.errors import Key, OptionError
from lfm_policy.options import option, options, with_changes
from lfm_runtime.policy.sampler import NUMBERS, Sampler

if TYPE_CHECKING:
    from lfm_policy.flow import Method, SolverSpec

Time = Annotated[float, Field(ge=0, le=1)]

Evaluations = int | Sequence[int]
"""Network evaluations per chunk: over all blocks, or of each block, block 1 first."""
StepTimes = Sequence[float] | Sequence[Sequence[float]]
"""Times inside blocks at which steps end: for every block, or of each block, block 1 first."""

MAXIMUM_NFE = 100_000
MAXIMUM_GUIDANCE = 20


class SamplerChanges(TypedDict, total=False):
    """What callers may ask of a sampler instead of what is configured; None: as it is configured.

    Keyword arguments of all functions that sample or open a policy, and the values of the command
    line (`lfm_policy.cli.common.add_sampler_options`).

    Attributes:
        solver: name of the ODE solver.
        nfe: network evaluations per chunk, spread evenly over all blocks, or those of each block,
            block 1 (data side) first.
        times: where steps end between t = 1 (noise) and t = 0 (data) of a block, decreasing: one
            list for all blocks that have as many steps, or one for each block, empty for equal
            steps.
        noise_scale: standard deviation of the noise that sampling starts from.
        renoise: share of each block's noise that a chunk is given before it.
        guidance: weight of the observation.
    """

    solver: str | None
    nfe: Evaluations | None
    times: StepTimes | None
    noise_scale: float | None
    renoise: float | None
    guidance: float | None


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

    def changed(self, **changes: Unpack[SamplerChanges]) -> SamplerConfig:
        """Return the options with some of them changed.

        Evaluations of one kind take the place of the other, and those that are given anew have
        none of the times that each block had; times of one kind take the place of the other.

        Raises:
            OptionError: a value is no value of its option.
            TypeError: there is no such argument.
        """
        if unknown := changes.keys() - SamplerChanges.__annotations__.keys():
            known = ", ".join(SamplerChanges.__annotations__)
            raise TypeError(f"a sampler has no {', '.join(sorted(unknown))}; it has {known}")
        asked: dict[str, Any] = {key: v for key, v in changes.items() if v is not None}
        nfe, times = (plain_numbers(asked.pop(key, None)) for key in ("nfe", "times"))
        if nfe is not None:
            each = isinstance(nfe, list)
            asked |= {"block_nfe": nfe} if each else {"block_nfe": [], "nfe": nfe}
            asked["block_times"] = []
        if times is not None:
            each = isinstance(times, list) and any(isinstance(part, list) for part in times)
            asked |= {"times": [] if each else times, "block_times": times if each else []}
        return with_changes(self, asked)

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

    def decided(
        self, solvers: Sequence[SolverSpec], nfe_per_block: tuple[int, ...] | None
    ) -> Sampler:
        """Return the sampler as it is said to others.

        Args:
            solvers: of each block, block 1 first, as of `solvers`.
            nfe_per_block: what each of them costs; None for an adaptive one.
        """
        return Sampler(
            solver=solvers[0].name,
            nfe=None if nfe_per_block is None else sum(nfe_per_block),
            nfe_per_block=nfe_per_block,
            block_times=tuple(solver.times for solver in solvers),
            **{name: getattr(self, name) for name in NUMBERS},
        )

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
