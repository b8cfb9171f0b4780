"""Encoders of observations and of the images among them, one per file, chosen by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.encoders.image_options import ImageEncoderConfig
    from lfm_policy.encoders.options import EncoderConfig

ENCODERS: Registry[type[EncoderConfig]] = Registry(
    "encoder",
    {
        "state": "lfm_policy.encoders.options:StateEncoderConfig",
        "cameras": "lfm_policy.encoders.options:CamerasConfig",
    },
)
IMAGE_ENCODERS: Registry[type[ImageEncoderConfig]] = Registry(
    "image encoder",
    {
        "compact": "lfm_policy.encoders.image_options:CompactConfig",
        "resnet18": "lfm_policy.encoders.image_options:ResNet18Config",
        "rgb_resnet": "lfm_policy.encoders.image_options:ResNetConfig",
        "pretrained": "lfm_policy.encoders.pretrained.encoder:PretrainedConfig",
    },
)
