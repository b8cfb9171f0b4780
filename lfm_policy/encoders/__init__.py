"""Observation encoders, one per file, chosen by name."""

from __future__ import annotations

from lfm_policy.encoders.base import EncoderConfig, ObsEncoder
from lfm_policy.encoders.cameras import CamerasConfig
from lfm_policy.encoders.image import IMAGE_ENCODERS
from lfm_policy.encoders.state import StateEncoderConfig
from lfm_runtime.registry import Registry

ENCODERS: Registry[type[EncoderConfig]] = Registry(
    "encoder", {"state": StateEncoderConfig, "cameras": CamerasConfig}
)

__all__ = [
    "ENCODERS",
    "IMAGE_ENCODERS",
    "CamerasConfig",
    "EncoderConfig",
    "ObsEncoder",
    "StateEncoderConfig",
]
