"""Velocity networks v(x, t, cond), one per file, chosen by name."""

from __future__ import annotations

from lfm_policy.networks.base import NetworkConfig, VelocityNetwork, count_parameters
from lfm_policy.networks.mlp import MLPConfig
from lfm_policy.networks.transformer import TransformerConfig
from lfm_policy.networks.unet1d import UNet1DConfig
from lfm_runtime.registry import Registry

NETWORKS: Registry[type[NetworkConfig]] = Registry(
    "network", {"mlp": MLPConfig, "unet1d": UNet1DConfig, "transformer": TransformerConfig}
)

__all__ = [
    "NETWORKS",
    "MLPConfig",
    "NetworkConfig",
    "TransformerConfig",
    "UNet1DConfig",
    "VelocityNetwork",
    "count_parameters",
]
