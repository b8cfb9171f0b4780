"""Encoder and velocity networks of one policy, and the chain of blocks they form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lfm_policy.config.block_networks import network_configs
from lfm_policy.config.flow import FlowConfig, TimeConfig
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.errors import InputError
from lfm_policy.flow import (
    TIME_SAMPLERS,
    Coupling,
    FlowBlock,
    FlowChain,
    NoiseEndTimes,
    OptionalCondition,
    OUSchedule,
    TimeSampler,
    geometric_step_sizes,
    guided,
)
from lfm_policy.networks.options import NetworkConfig
from lfm_policy.policy.prefix import prefix_condition
from lfm_runtime.policy.spec import DataSpec


def ou_schedule(flow: FlowConfig) -> OUSchedule:
    """Return the OU time steps that the options ask for."""
    if flow.step_sizes:
        return OUSchedule(tuple(flow.step_sizes))
    return OUSchedule(geometric_step_sizes(flow.n_blocks, flow.c, flow.rho))


def create_encoder(config: ExperimentConfig, spec: DataSpec) -> ObsEncoder:
    """Return the observation encoder, with fresh weights."""
    return config.encoder.create(dict(spec.obs_shapes), config.policy.n_obs_steps)


def network_cond_dim(config: ExperimentConfig, spec: DataSpec, encoder: ObsEncoder) -> int:
    """Return the length of the condition of a block's network: observations and prefix."""
    prefix = prefix_condition(config, spec.action_dim)
    return encoder.cond_dim + (0 if prefix is None else prefix.size)


def create_block_network(
    config: ExperimentConfig, spec: DataSpec, network: NetworkConfig, encoder: ObsEncoder
) -> nn.Module:
    """Return the network of a block, with fresh weights from torch's global random numbers.

    Where observations are left out in training (``flow.drop_obs``), it is an `OptionalCondition`;
    of its condition only what is observed is left out, and a prefix is not: the robot is committed
    to it whatever is seen.

    Args:
        config: of the policy.
        spec: of its data.
        network: options of the network.
        encoder: whose conditions it gets.

    Raises:
        InputError: it cannot be made, or there are no observations that could be left out.
    """
    chunk_shape = (config.policy.horizon, spec.action_dim)
    n_times = config.flow.method.create().n_times
    made = network.create(chunk_shape, network_cond_dim(config, spec, encoder), n_times)
    share = config.flow.drop_obs
    if not share:
        return made
    if not encoder.cond_dim:
        raise InputError(
            f"flow.drop_obs is {share:g}, but there are no observations that could be left out: "
            "expected 0"
        )
    return OptionalCondition(made, encoder.cond_dim, share)


def tensor_shapes(
    config: ExperimentConfig, spec: DataSpec, *, max_tensors: int, max_numbers: int
) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of the `PolicyModel`, which is float32.

    Costs next to no memory or time, whatever the configuration, which may be hostile: networks
    are made without their numbers, and equal ones once.

    Raises:
        InputError: the networks cannot be made, or have more tensors or numbers than allowed.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    numbers = 0
    known: list[tuple[NetworkConfig, dict[str, tuple[int, ...]]]] = []

    def add(prefix: str, part: dict[str, tuple[int, ...]]) -> None:
        nonlocal numbers
        numbers += sum(math.prod(shape) for shape in part.values())
        shapes.update({f"{prefix}.{name}": shape for name, shape in part.items()})
        if numbers > max_numbers or len(shapes) > max_tensors:
            raise InputError(
                f"the networks have more than {max_numbers:,} parameters or {max_tensors:,} "
                "tensors, which is more than is ever loaded"
            )

    try:
        with torch.device("meta"):
            encoder = create_encoder(config, spec)
            add("encoder", _shapes(encoder))
            for position, network in enumerate(network_configs(config)):
                part = next((part for other, part in known if other == network), None)
                if part is None:
                    part = _shapes(create_block_network(config, spec, network, encoder))
                    known.append((network, part))
                add(f"blocks.{position}", part)
    except InputError:
        raise
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"the networks cannot be made: {reason}") from None
    return shapes


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _time_sampler(time: TimeConfig) -> TimeSampler:
    options: dict[str, Any] = {}
    if time.name == "beta":
        options = {"alpha": time.alpha, "beta": time.beta}
    elif time.name == "points":
        options = {"points": tuple(time.points)}
    sampler = TIME_SAMPLERS.get(time.name)(**options)
    return NoiseEndTimes(time.noise_share, sampler) if time.noise_share else sampler


def _coupling(flow: FlowConfig) -> Coupling | str:
    if flow.coupling != "optimal":
        return flow.coupling
    from lfm_policy.flow import OptimalCoupling  # imports scipy, which nothing else here needs

    return OptimalCoupling(flow.coupling_weight)


class PolicyModel(nn.Module):
    """Observation encoder and one velocity network per block.

    Attributes:
        encoder: maps observations to ``obs_cond`` (B, cond_dim); called once per chunk.
        prefix: what is added to ``obs_cond`` (see `with_prefix`); None for no prefixes.
        blocks: velocity networks, index 0 = block 1 = data side.
        schedule: the OU time steps of the chain.
    """

    def __init__(self, config: ExperimentConfig, spec: DataSpec) -> None:
        super().__init__()
        self.chunk_shape = (config.policy.horizon, spec.action_dim)
        self.encoder = create_encoder(config, spec)
        self.prefix = prefix_condition(config, spec.action_dim)
        self.blocks = nn.ModuleList(
            create_block_network(config, spec, network, self.encoder)
            for network in network_configs(config)
        )
        self.schedule = ou_schedule(config.flow)
        self._flow = config.flow

    def flow_block(self, n: int, velocity: Any = None) -> FlowBlock:
        """Return block n = 1..N; ``velocity`` stands in for the network (a compiled one, say)."""
        flow = self._flow
        interpolants = flow.block_interpolants or [flow.interpolant] * self.n_blocks
        return FlowBlock(
            network=self.blocks[n - 1] if velocity is None else velocity,
            step=self.schedule.step(n),
            interpolant=interpolants[n - 1],
            coupling=_coupling(flow),
            time_sampler=_time_sampler(flow.time),
            method=flow.method,
        )

    @property
    def n_blocks(self) -> int:
        """Number N of blocks."""
        return len(self.blocks)

    def chain(self, guidance: float = 1.0) -> FlowChain:
        """Return all blocks as one chain from noise to data; its condition is the encoder's.

        Args:
            guidance: weight of the observation, see `lfm_policy.flow.GuidedNetwork`.

        Raises:
            ValueError: it is not 1, and the networks always learned with an observation.
        """
        networks = [guided(network, guidance) for network in self.blocks]
        return FlowChain([self.flow_block(n, net) for n, net in enumerate(networks, start=1)])

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of the encoder, of each block and in total."""
        counts = {"encoder": sum(p.numel() for p in self.encoder.parameters())}
        for n, block in enumerate(self.blocks, start=1):
            counts[f"block {n}"] = sum(p.numel() for p in block.parameters())
        counts["total"] = sum(counts.values())
        return counts
