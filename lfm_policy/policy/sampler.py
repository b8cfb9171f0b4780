"""How many solver steps each block takes for a given number of network evaluations."""

from __future__ import annotations

from lfm_policy.config.flow import SamplerConfig, check_evaluations
from lfm_policy.errors import InputError
from lfm_policy.flow import SolverSpec


def plan_sampler(
    sampler: SamplerConfig, n_blocks: int, *, solver: str | None = None, nfe: int | None = None
) -> list[SolverSpec]:
    """Return the solver of each block, index 0 = block 1 (data side).

    The evaluations are spread evenly. What is left over goes to the blocks nearest the noise,
    which have the longest way to go.

    Args:
        sampler: defaults from the configuration.
        n_blocks: number of blocks.
        solver: another solver than the configured one.
        nfe: another number of evaluations over all blocks. Adaptive solvers choose it themselves.

    Raises:
        InputError: ``nfe`` is too small for one step in every block or does not fit the solver.
    """
    name = sampler.solver if solver is None else solver
    adaptive = SolverSpec(name=name, rtol=sampler.rtol, atol=sampler.atol)
    per_step = adaptive.evaluations
    if per_step is None:
        if nfe is not None:
            raise InputError(
                f"nfe is {nfe}, but the solver '{name}' chooses its steps itself; "
                "leave nfe out or choose euler, midpoint or heun"
            )
        return [adaptive] * n_blocks
    total = sampler.nfe if nfe is None else nfe
    check_evaluations(total, name, n_blocks, key="nfe")
    steps, left_over = divmod(total // per_step, n_blocks)
    counts = [steps + (1 if n > n_blocks - left_over else 0) for n in range(1, n_blocks + 1)]
    times = tuple(sampler.times)
    return [
        SolverSpec(name, count, times=times if len(times) == count - 1 else ()) for count in counts
    ]
