"""Action chunks on their way from noise to action, for one observation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation.group import group_edges
from lfm_policy.policy import Policy


@dataclass(frozen=True)
class FlowState:
    """All chunks at one moment of sampling.

    Attributes:
        left: share of the chain that is still to go: 1 at the noise, 0 at the action. Blocks
            count the same, a student as much as the blocks of its teacher that it replaces, and
            so do the steps of a block.
        block: number of the block that has just made a step; None at the noise.
        time: t in that block, 0 where it ends; 1 at the noise.
        evaluations: network evaluations so far.
        chunks: (S, horizon, action_dim) float32, in the units of the actions.
    """

    left: Fraction
    block: int | None
    time: float
    evaluations: int
    chunks: np.ndarray


@torch.inference_mode()
def flow_states(
    policy: Policy, obs: Mapping[str, np.ndarray], noise: torch.Tensor
) -> list[FlowState]:
    """Sample chunks as the policy does and return them after every step of the solver.

    Args:
        policy: with its sampler. An adaptive solver is shown at the ends of the blocks only.
        obs: one observation by name, each (n_obs_steps, *shape), in the units of the
            demonstrations.
        noise: (S, horizon, action_dim) standard normal; as in `Policy.sample` it is multiplied by
            the policy's noise scale.
    """
    cond = policy.encode({key: obs[key][None] for key in policy.spec.obs_shapes})
    if cond is not None:
        cond = cond.expand(len(noise), -1)
    noise = noise.to(policy.device, torch.float32)
    result = policy.pipeline.sample_chain(noise, cond, return_path=True)
    assert result.path is not None
    ends, n_blocks = _block_ends(policy.config), len(result.path)

    def units(x: torch.Tensor) -> np.ndarray:
        return policy.normalizer.unnormalize("action", x).cpu().numpy()

    states = [FlowState(Fraction(1), None, 1.0, 0, units(result.path[-1][0]))]
    done = 0
    for n in range(n_blocks, 0, -1):
        path, solver = result.path[n - 1], policy.pipeline.solvers[n - 1]
        n_steps = len(path) - 1
        equal = [1 - k / n_steps for k in range(1, n_steps + 1)]
        times = [*solver.times, 0.0] if solver.times else equal
        for k in range(1, n_steps + 1):
            states.append(
                FlowState(
                    left=ends[n - 1] + (ends[n] - ends[n - 1]) * Fraction(n_steps - k, n_steps),
                    block=n,
                    time=times[k - 1],
                    evaluations=done + result.nfe_per_block[n - 1] * k // n_steps,
                    chunks=units(path[k]),
                )
            )
        done += result.nfe_per_block[n - 1]
    return states


def _block_ends(config: ExperimentConfig) -> list[Fraction]:
    """Return the shares of the chain at which blocks end, from 0 (action) to 1 (noise)."""
    groups, n_blocks = config.distill.groups, config.flow.n_blocks
    total = sum(groups) or n_blocks
    return [edge / total for edge in group_edges(total, n_blocks, groups)]


def states_to_show(
    states: list[FlowState], n_blocks: int, stops: Collection[Fraction]
) -> list[FlowState]:
    """Return about five states: the ends of blocks, and what lies between few of them.

    Args:
        states: of a teacher, from `flow_states`.
        n_blocks: of the teacher.
        stops: what is still to go where its students stop, to be shown as well.
    """
    if n_blocks < 4:
        parts = n_blocks * (4 // n_blocks)
        wanted = {Fraction(k, parts) for k in range(parts)}
    else:
        stride = -(-n_blocks // 4)
        wanted = {Fraction(k, n_blocks) for k in range(0, n_blocks, stride)}
    wanted |= {Fraction(0), Fraction(1), *stops}
    return [state for state in states if state.left in wanted]
