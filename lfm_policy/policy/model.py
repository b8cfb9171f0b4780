"""Encoder and velocity networks of one policy, and the chain of blocks they form."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from lfm_policy.config.option import validate_options
from lfm_policy.config.schema import ExperimentConfig, FlowConfig, TimeConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import (
    TIME_SAMPLERS,
    FlowBlock,
    FlowChain,
    OUSchedule,
    TimeSampler,
    geometric_step_sizes,
)
from lfm_policy.networks import NetworkConfig
from lfm_policy.policy.spec import DataSpec


def ou_schedule(flow: FlowConfig) -> OUSchedule:
    """Return the OU time steps that the options ask for."""
    if flow.step_sizes:
        return OUSchedule(tuple(flow.step_sizes))
    return OUSchedule(geometric_step_sizes(flow.n_blocks, flow.c, flow.rho))


def network_configs(config: ExperimentConfig) -> list[NetworkConfig]:
    """Return the options of the network of each block, index 0 = block 1 (data side).

    Raises:
        InputError: an entry of ``block_networks`` has an unknown key or a wrong type.
    """
    if not config.block_networks:
        return [config.network] * config.flow.n_blocks
    configs = []
    for position, changes in enumerate(config.block_networks):
        try:
            merged = OmegaConf.merge(OmegaConf.structured(config.network), changes)
            network = OmegaConf.to_object(merged)
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"block_networks[{position}]: {reason}") from None
        assert isinstance(network, NetworkConfig)
        if network.name != config.network.name:
            raise InputError(
                f"block_networks[{position}].name is '{network.name}', expected "
                f"'{config.network.name}': blocks differ in size, not in family"
            )
        validate_options(network, prefix=f"block_networks[{position}].")
        configs.append(network)
    return configs


def _time_sampler(time: TimeConfig) -> TimeSampler:
    if time.name == "beta":
        return TIME_SAMPLERS.get("beta")(alpha=time.alpha, beta=time.beta)
    return TIME_SAMPLERS.get(time.name)()


class PolicyModel(nn.Module):
    """Observation encoder and one velocity network per block.

    Attributes:
        encoder: maps observations to ``obs_cond`` (B, cond_dim); called once per chunk.
        blocks: velocity networks, index 0 = block 1 = data side.
    """

    def __init__(self, config: ExperimentConfig, spec: DataSpec) -> None:
        super().__init__()
        chunk_shape = (config.policy.horizon, spec.action_dim)
        self.chunk_shape = chunk_shape
        self.encoder = config.encoder.create(dict(spec.obs_shapes), config.policy.n_obs_steps)
        self.blocks = nn.ModuleList(
            network.create(chunk_shape, self.encoder.cond_dim)
            for network in network_configs(config)
        )
        self._schedule = ou_schedule(config.flow)
        self._flow = config.flow

    def flow_block(self, n: int, velocity: Any = None) -> FlowBlock:
        """Return block n = 1..N; ``velocity`` stands in for the network (a compiled one, say)."""
        flow = self._flow
        interpolant = (
            flow.block_interpolants[n - 1] if flow.block_interpolants else flow.interpolant
        )
        return FlowBlock(
            velocity=self.blocks[n - 1] if velocity is None else velocity,
            step=self._schedule.step(n),
            interpolant=interpolant,
            coupling=flow.coupling,
            time_sampler=_time_sampler(flow.time),
            prediction=flow.prediction,
        )

    @property
    def schedule(self) -> OUSchedule:
        """The OU time steps of the chain."""
        return self._schedule

    @property
    def n_blocks(self) -> int:
        """Number N of blocks."""
        return len(self.blocks)

    def chain(self) -> FlowChain:
        """Return all blocks as one chain from noise to data."""
        return FlowChain([self.flow_block(n) for n in range(1, self.n_blocks + 1)])

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of the encoder, of each block and in total."""
        counts = {"encoder": sum(p.numel() for p in self.encoder.parameters())}
        for n, block in enumerate(self.blocks, start=1):
            counts[f"block {n}"] = sum(p.numel() for p in block.parameters())
        counts["total"] = sum(counts.values())
        return counts
