"""The loss of every block between what ignores the observation and what the policy itself expects.

All losses of a block are taken at the same instants, with the same noise and times:

- ``held_out``, ``training``: the block's loss, EMA weights, as in training; data-side ends beyond
  block 1 are pushed forward through the blocks before it.
- ``ignorant``: what the best affine field reaches that does not see the observation. For chunks
  with mean mu and covariance Sigma it is E[target | I_t] of a normal distribution, whose mean
  square error depends on mu and Sigma alone: no affine predictor is better, whatever the
  distribution is (`lfm_policy.flow.gaussian_network`). mu and Sigma are those of training chunks,
  taken through the exact OU process to the block. A network that sees nothing may still be a little
  better, by not being affine.
  What a network of mean velocities learns of steps it learns from itself, and a smaller error there
  says nothing of observations: for all four, its loss is that of the pairs with s = t alone.
- ``own``: the loss on chunks of the policy's own instead of demonstrated ones, full noise. This is
  what the loss would be if, given an observation, demonstrations were distributed as the policy
  believes: for an exact policy the irreducible loss E Var(target | I_t, O). It says nothing where
  the belief is wrong; a held-out loss far above it means that it is.

The irreducible loss of the demonstrations themselves needs many chunks of one observation, which
there never are; nearest neighbours among some thousand high-dimensional observations are too far
away to stand in for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.checking.subject import CheckpointSubject, batches
from lfm_policy.errors import InputError
from lfm_policy.flow import FlowBlock, SolverSpec, gaussian_network, push_gaussian
from lfm_policy.flow.chain import run_in_batches
from lfm_policy.flow.methods import MeanVelocityMethod, RegressionMethod
from lfm_policy.flow.solvers.velocity import Network
from lfm_policy.policy import Policy

DRAWS = 8
"""Times and noises of every chunk."""

MOST_CHUNKS = 512
"""Chunks of a split whose losses are taken."""

OWN_STEPS = 8
"""Steps of the midpoint rule per block for chunks of the policy's own."""

RIDGE = 1e-6
"""Added to the variances of normalised chunks, some of which may be zero."""


@dataclass(frozen=True)
class BlockCheck:
    """Losses of one block; None where there are none.

    Attributes:
        block: its number, 1 at the data.
        held_out: on the episodes that are checked.
        training: on episodes of the training.
        ignorant: of the best affine field that does not see the observation, on the former.
        own: on chunks of the policy's own.
        recorded: what the training wrote down last, on its whole validation set; a student's loss
            is its distance to its teacher, and nothing else is known of it.
    """

    block: int
    held_out: float | None
    training: float | None
    ignorant: float | None
    own: float | None
    recorded: dict[str, float | None]

    def over_ignorant(self, loss: float | None) -> float | None:
        """Return a loss over what ignores the observation; None where one of them is not known."""
        return None if loss is None or not self.ignorant else loss / self.ignorant

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "block": self.block,
            "held_out": self.held_out,
            "training": self.training,
            "ignoring_observations": self.ignorant,
            "own_chunks": self.own,
            "recorded": self.recorded,
        }


def check_blocks(
    held_out: CheckpointSubject,
    training: CheckpointSubject | None,
    reference: np.ndarray,
    *,
    seed: int,
    quiet: bool = True,
) -> list[BlockCheck]:
    """Return the losses of all blocks of a policy.

    Args:
        held_out: the policy at the instants that are checked.
        training: the same at instants of the training; None where there are none.
        reference: (n, horizon, action_dim) chunks of the training, in the robot's units.
        seed: of times and noise.
        quiet: no progress bar.
    """
    policy = held_out.policy
    recorded = [
        {key: record.get(key) for key in ("loss", "validation_loss")}
        for record in policy.info.get("blocks", [{}] * policy.model.n_blocks)
    ]
    numbers = range(1, policy.model.n_blocks + 1)
    if policy.config.distill.method:
        return [BlockCheck(n, None, None, None, None, recorded[n - 1]) for n in numbers]
    generator = np.random.default_rng((seed, 2))
    with torch.no_grad():
        here = _Rows(held_out, generator)
        there = None if training is None else _Rows(training, generator)
        networks = [policy.model.flow_block(n).network for n in numbers]
        ignorant = _ignorant_networks(policy, reference)
        pushed, own = here.pushed(), here.own()
        pushed_there = None if there is None else there.pushed()
        found = []
        for n in tqdm(numbers, desc="losses", unit="block", disable=quiet, delay=1):
            network, stand_in = networks[n - 1], ignorant[n - 1]

            def loss(
                rows: _Rows | None, asked: Network | None, x: list[Tensor] | None, n: int = n
            ) -> float | None:
                if rows is None or asked is None or x is None:
                    return None
                return rows.loss(policy.model.flow_block(n, asked), x[n - 1], seed)

            found.append(
                BlockCheck(
                    block=n,
                    held_out=loss(here, network, pushed),
                    training=loss(there, network, pushed_there),
                    ignorant=loss(here, stand_in, pushed),
                    own=loss(here, network, own),
                    recorded=recorded[n - 1],
                )
            )
    return found


class _Rows:
    """Some instants that training would have had windows of, with their conditions."""

    def __init__(self, subject: CheckpointSubject, generator: np.random.Generator) -> None:
        self._policy = policy = subject.policy
        rows = np.flatnonzero(subject.instants.trained)
        if len(rows) > MOST_CHUNKS:
            rows = np.sort(generator.choice(rows, MOST_CHUNKS, replace=False))
        self._noise = generator.standard_normal((len(rows), *policy.chunk_shape), np.float32)
        action = torch.from_numpy(subject.instants.demonstrated[rows]).to(policy.device)
        self.x_0 = policy.normalizer.normalize("action", action)
        conditions = [subject.condition(rows[part]) for part in batches(len(rows), 256)]
        known = [cond for cond in conditions if cond is not None]
        self.cond = torch.cat(known) if known else None

    def pushed(self) -> list[Tensor]:
        """Return the data-side ends of blocks 1 to N that the demonstrated chunks lead to."""
        policy, model, training = self._policy, self._policy.model, self._policy.config.training
        options = policy.config.push_forward
        ends = [self.x_0]
        exact = training.block_training == "parallel" or training.joint_only
        solver = SolverSpec(options.solver, options.n_steps, options.rtol, options.atol)
        for n in range(1, model.n_blocks):
            if exact:  # that is what the blocks have learnt from
                generator = torch.Generator().manual_seed(n)
                noise = torch.randn(self.x_0.shape, generator=generator).to(self.x_0.device)
                step = model.schedule.marginal(n)
                ends.append(step.decay * self.x_0 + step.noise_std * noise)
            else:
                block = model.flow_block(n)
                ends.append(run_in_batches(block, ends[-1], self.cond, solver, 512).x)
        return ends

    def own(self) -> list[Tensor] | None:
        """Return the same ends of chunks of the policy's own; None if its networks are no field."""
        model = self._policy.model
        chain = model.chain()
        try:
            chain.block(1).velocity  # noqa: B018
        except InputError:
            return None
        # A regression sees no noise in its first step: it is no flow, and has but one sampler.
        flows = not isinstance(chain.block(1).method, RegressionMethod)
        solver = SolverSpec("midpoint", OWN_STEPS) if flows else self._policy.pipeline.solvers
        noise = torch.from_numpy(self._noise).to(self.x_0.device)
        result = chain.sample(noise, self.cond, solver=solver, return_path=True)
        assert result.path is not None
        return [path[-1] for path in result.path]

    def loss(self, block: FlowBlock, x_l: Tensor, seed: int) -> float:
        """Return the mean loss of a block over the rows, with `DRAWS` times and noises of each."""
        generator = torch.Generator(device=x_l.device).manual_seed(seed)
        other = x_l.flip(0) if block.needs_other else None
        if isinstance(block.method, MeanVelocityMethod):
            block.method = replace(block.method.config, equal_share=1.0).create()
        losses = [
            float(block.loss(x_l, self.cond, x_other=other, generator=generator))
            for _ in range(DRAWS)
        ]
        return float(np.mean(losses))


def _ignorant_networks(policy: Policy, chunks: np.ndarray) -> list[Network | None]:
    """Return what stands in for the network of every block; None where the method is another."""
    model = policy.model
    normalized = policy.normalizer.normalize("action", torch.from_numpy(chunks).to(policy.device))
    flat = normalized.flatten(1).double()
    mean, deviation = flat.mean(0), flat - flat.mean(0)
    identity = torch.eye(len(mean), dtype=flat.dtype, device=flat.device)
    cov = deviation.T @ deviation / len(flat) + RIDGE * identity
    return [
        gaussian_network(
            model.flow_block(n),
            *push_gaussian(mean, cov, model.schedule.marginal(n - 1)),
            coupling=policy.config.flow.coupling,
        )
        for n in range(1, model.n_blocks + 1)
    ]
