"""Image encoders by name; a new one is one file with its config class and one line here."""

from __future__ import annotations

from lfm_policy.encoders.compact import CompactConfig
from lfm_policy.encoders.image import ImageEncoderConfig
from lfm_policy.encoders.pretrained.encoder import PretrainedConfig
from lfm_policy.encoders.resnet18 import ResNet18Config
from lfm_runtime.registry import Registry

IMAGE_ENCODERS: Registry[type[ImageEncoderConfig]] = Registry(
    "image encoder",
    {"compact": CompactConfig, "resnet18": ResNet18Config, "pretrained": PretrainedConfig},
)
