"""Observation encoders, one per file, chosen by name."""

from __future__ import annotations

from lfm_policy.encoders.base import EncoderConfig, ObsEncoder
from lfm_policy.encoders.state import StateEncoderConfig
from lfm_policy.registry import Registry

ENCODERS: Registry[type[EncoderConfig]] = Registry("encoder", {"state": StateEncoderConfig})

__all__ = ["ENCODERS", "EncoderConfig", "ObsEncoder", "StateEncoderConfig"]
