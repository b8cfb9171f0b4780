"""From observations and noise to a chunk of actions: one module that is run, exported and timed.

obs (B, n_obs_steps, *shape) --normalise--> encode --+
prefix (B, P, action_dim), mask --+--> cond
noise (B, horizon, action_dim) * noise_scale --block N--> ... --block 1--> un-normalise,
clip, put the prefix in --> chunk (B, horizon, action_dim)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from lfm_policy.config.sampler import SamplerChanges, SamplerConfig
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.flow import Method, SampleResult, SolverSpec, VelocityConfig
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_runtime.policy.sampler import Sampler
from lfm_runtime.policy.spec import DataSpec, is_image


@dataclass(frozen=True)
class ChunkResult:
    """One sampled chunk per row of the batch.

    Attributes:
        chunk: (B, horizon, action_dim) in the robot's units, of ``spec.dtype("action")``.
        nfe: network evaluations it took.
    """

    chunk: Tensor
    nfe: int


class Pipeline(nn.Module):
    """All that is computed between checked observations and a chunk of actions.

    It keeps nothing from one chunk to the next: history, seeds and checks are `Policy`'s. A
    prefix is a pair, the actions (B, max_prefix, action_dim) in the robot's units and a mask
    (B, max_prefix) of 1 where there is one; only a policy that takes prefixes looks at it.

    Attributes:
        model: encoder, networks and how prefixes enter, in evaluation mode, on ``device``.
        normalizer: on ``device``.
        solvers: of each block, index 0 = block 1 (data side).
        options: of the sampler.
        chain: the blocks, with guidance where there is any.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        spec: DataSpec,
        model: PolicyModel,
        normalizer: Normalizer,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.model = model.to(device).eval().requires_grad_(False)
        self.normalizer = normalizer.to(device)
        self.sample_with(
            config.sampler,
            plan_sampler(config.sampler, model.n_blocks, method=config.flow.method.create()),
        )
        self._action_dtype = getattr(torch, spec.dtype("action"))

    def sample_with(self, options: SamplerConfig, solvers: Sequence[SolverSpec]) -> None:
        """Sample so from now on.

        Args:
            options: of the sampler.
            solvers: of each block, as `plan_sampler` finds them for the options.
        """
        self.options, self.solvers = options, solvers
        self.chain = self.model.chain(options.guidance)

    @property
    def sampler(self) -> Sampler:
        """The sampler, whole."""
        evaluations = [
            self.chain.block(n).evaluations(solver)
            for n, solver in enumerate(self.solvers, start=1)
        ]
        counts = tuple(count for count in evaluations if count is not None)
        per_block = counts if len(counts) == len(evaluations) else None
        return self.options.decided(self.solvers, per_block)

    def copy(self, device: str | torch.device) -> Pipeline:
        """Return a pipeline with weights of its own and the same sampler."""
        model = copy.deepcopy(self.model)
        other = Pipeline(self.config, self.spec, model, self.normalizer, device=device)
        other.sample_with(self.options, self.solvers)
        return other

    def forward(
        self, obs: Mapping[str, Tensor], noise: Tensor, prefix: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return chunks (B, horizon, action_dim); arguments as `sample`, but in raw units."""
        return self.sample(self.normalized(obs), noise, prefix).chunk

    def normalized(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return normalised observations, float32; images are left to the encoder, as uint8.

        Args:
            obs: (..., *shape) by name, each of its `DataSpec.dtype`.
        """
        return {
            key: value
            if is_image(self.spec.obs_shapes[key])
            else self.normalizer.normalize(key, value)
            for key, value in obs.items()
        }

    def condition(
        self, obs: Mapping[str, Tensor], prefix: tuple[Tensor, Tensor] | None
    ) -> Tensor | None:
        """Return what the networks are told, (B, cond_dim); None where there is nothing to tell.

        Args:
            obs: normalised, (B, n_obs_steps, *shape) by name, or features in place of images.
            prefix: see the class.
        """
        cond: Tensor | None = self.model.encoder(obs)
        if self.model.prefix is None or prefix is None:
            return cond
        actions, mask = prefix
        normalized = self.normalizer.normalize("action", actions)
        return with_prefix(cond, self.model.prefix.features(normalized, mask))

    def sample(
        self, obs: Mapping[str, Tensor], noise: Tensor, prefix: tuple[Tensor, Tensor] | None
    ) -> ChunkResult:
        """Return chunks in the robot's units.

        Args:
            obs: as for `condition`.
            noise: standard normal (B, horizon, action_dim), float32.
            prefix: see the class.
        """
        cond = self.condition(obs, prefix)
        result = self.sample_chain(noise, cond)
        chunk = self.normalizer.unnormalize("action", result.x)
        if self.config.policy.clip_actions:
            limits = self.normalizer["action"]
            chunk = torch.clamp(chunk, limits.raw("min"), limits.raw("max"))
        chunk = chunk.to(self._action_dtype)
        if self.model.prefix is not None and prefix is not None:
            # To the digit and not nearly: the robot is executing these already.
            chunk = self.model.prefix.put(chunk, *prefix)
        return ChunkResult(chunk, result.nfe)

    def sample_chain(
        self, noise: Tensor, cond: Tensor | None, *, return_path: bool = False
    ) -> SampleResult:
        """Return normalised chunks from standard normal noise, with the sampler as it is set.

        Args:
            noise: standard normal (B, horizon, action_dim), float32.
            cond: of `condition`.
            return_path: see `FlowChain.sample`.
        """
        options = self.options
        if options.noise_scale != 1:
            noise = noise * options.noise_scale
        return self.chain.sample(
            noise, cond, solver=self.solvers, renoise=options.renoise, return_path=return_path
        )


def plan_sampler(
    sampler: SamplerConfig,
    n_blocks: int,
    *,
    method: Method | None = None,
    **changes: Unpack[SamplerChanges],
) -> list[SolverSpec]:
    """Return the solver of each block, index 0 = block 1 (data side).

    Args:
        sampler: defaults from the configuration.
        n_blocks: number of blocks.
        method: of the blocks; it says what a step costs, and which solver is used where neither
            the configuration nor the caller says. Flow matching when None.
        changes: what is asked for instead of what is configured. Adaptive solvers choose their
            evaluations themselves.

    Raises:
        InputError: ``nfe`` is too small for one step in every block or does not fit the solver, or
            ``times`` are for other numbers of steps, or the solver is another method's.
    """
    method = VelocityConfig().create() if method is None else method
    asked = sampler.changed(**changes)
    solvers = asked.solvers(n_blocks, method=method)
    if method.evaluations(solvers[0]) is None:
        for key in ("nfe", "times"):
            if (value := changes.get(key)) is not None:
                raise InputError(
                    f"{key} is {value}, but the solver '{solvers[0].name}' chooses its steps "
                    f"itself; leave {key} out or choose euler, midpoint or heun"
                )
    every, counts = asked.times, [solver.n_steps for solver in solvers]
    if changes.get("times") is not None and every and len(every) + 1 not in counts:
        raise InputError(
            f"times are {every}, which are for {len(every) + 1} steps; the blocks have "
            f"{', '.join(map(str, counts))}"
        )
    return solvers
