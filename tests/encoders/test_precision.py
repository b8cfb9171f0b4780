"""Features of images under autocast: a bfloat16 has 8 bits, places need more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lfm_policy import load_policy
from lfm_policy.data.images.resize import Resize
from lfm_policy.device import full_precision
from lfm_policy.encoders import IMAGE_ENCODERS
from lfm_policy.encoders.cameras import CamerasEncoder
from lfm_policy.environments import make_env

SHARP = 4.0
"""By which maps of fresh weights are made as bright as learned ones: their keypoints then differ
between images by an eighth of the image and more."""

ENCODERS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "compact": ("compact", 0.01, {}),
    "compact, all options": (
        "compact",
        0.01,
        {
            "fine_keypoints": 16,
            "spread": True,
            "values": 1,
            "coordinates": True,
            "temperatures": "each",
            "output_dim": 128,
        },
    ),
    "resnet18": ("resnet18", 0.03, {"width": 32}),
}
"""Encoders, and the largest difference of any feature between bfloat16 and float32. Half of the
image is 1, so that 0.01 is 0.4 pixels of 84; half of all features differ by a tenth of that."""


def frames(*shape: int) -> Tensor:
    """Return smooth images, as cameras give them: noise has no place that could be found."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(*shape[:2], 6, 6, shape[4], generator=generator) * 255
    rough = coarse.permute(0, 1, 4, 2, 3).flatten(0, 2)[:, None]
    smooth = torch.nn.functional.interpolate(rough, shape[2:4], mode="bicubic").clamp(0, 255)
    images = smooth[:, 0].unflatten(0, (shape[0], shape[1], shape[4]))
    return images.permute(0, 1, 3, 4, 2).to(torch.uint8)


def sharpen(encoder: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith("temperature"):
                parameter /= SHARP


@pytest.mark.parametrize("name", ENCODERS)
def test_features_of_bfloat16_are_those_of_float32_within_a_bound(name: str) -> None:
    torch.manual_seed(0)
    kind, bound, options = ENCODERS[name]
    encoder = IMAGE_ENCODERS.get(kind)(crop=[84, 84], **options).create("c", (96, 96, 3)).eval()
    sharpen(encoder)
    images = frames(8, 2, 96, 96, 3)
    with torch.no_grad():
        expected = encoder(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(images)
    assert found.dtype == torch.float32
    differences = (found - expected).abs()
    assert 0 < differences.max() < bound and differences.median() < bound / 5
    # The layers before were rounded, the result was not.
    assert (found != found.bfloat16()).float().mean() > 0.9


@pytest.mark.simulator
def test_places_of_a_learned_encoder_differ_by_less_than_half_a_pixel() -> None:
    policy = load_policy("pusht-image")
    encoder = policy.model.encoder
    assert isinstance(encoder, CamerasEncoder)
    module = encoder.image_encoder("image").eval()
    with make_env(policy.config.env.id) as env:
        seen = [env.reset(seed=seed)[0]["image"] for seed in range(12)]
    images = torch.from_numpy(np.stack(seen))[:, None]
    with torch.no_grad():
        expected = module(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = module(images)
    pixels = (found - expected) * 84 / 2
    assert pixels.abs().max() < 0.5 and pixels.square().mean().sqrt() < 0.1


def test_resized_levels_are_the_same_under_autocast() -> None:
    resize, images = Resize((96, 96), (60, 72)), frames(2, 2, 96, 96, 3)
    expected = resize(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize(images), expected)


def test_full_precision_is_for_what_is_inside() -> None:
    a = torch.randn(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(a.device):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
