"""Velocity networks v(x, t, cond), one per file, chosen by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.networks.options import NetworkConfig

NETWORKS: Registry[type[NetworkConfig]] = Registry(
    "network",
    {
        "mlp": "lfm_policy.networks.options:MLPConfig",
        "unet1d": "lfm_policy.networks.options:UNet1DConfig",
        "conditional_unet1d": "lfm_policy.networks.options:ConditionalUNet1DConfig",
        "transformer": "lfm_policy.networks.options:TransformerConfig",
    },
)
