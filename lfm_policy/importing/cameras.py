"""The weights of ResNets over camera images, whose sizes are read from themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lfm_policy.encoders.image_options import GROUP_SIZE
from lfm_policy.errors import InputError
from lfm_policy.importing.description import Camera
from lfm_policy.importing.scaling import Array

if TYPE_CHECKING:
    from torch import Tensor

FIRST_STAGE = 4
"""Index of the first stage among torchvision's children: conv, norm, ReLU, pooling before."""
BATCH_NORM_EPSILON = 1e-5
STEM_REDUCTION = 4
"""Pixels of the image per position in the first stage; each later one has twice as many."""


@dataclass(frozen=True)
class Names:
    """What the parts of an image encoder are called in a framework."""

    backbone: str = "backbone."
    maps: str = "pool.nets."
    output: str = "out."
    grid: str = "pool.pos_grid"


def read_camera(
    weights: Mapping[str, Tensor],
    label: str,
    *,
    frame: tuple[int, ...],
    resize: list[int],
    crop: list[int],
    scale: Array,
    shift: Array,
    names: Names = Names(),
    rounded_centre: bool = True,
) -> Camera:
    """Return the encoder of a camera.

    Args:
        weights: by their names inside the encoder; unused ones are left alone.
        label: of the file, for messages.
        frame: height, width and channels.
        resize: to what size frames are resized; empty: not at all.
        crop: what is seen of them then; empty: all.
        scale: of each channel of images from 0 to 1.
        shift: added to it.
        names: of its parts.
        rounded_centre: whether the centre crop is torchvision's.

    Raises:
        InputError: they are not those of a ResNet of basic blocks with spatial softmax.
    """
    import torch

    reader = _Backbone(weights, label, names.backbone)
    reader.convolution("0", "1", "stem.0", "stem.1")
    widths: list[int] = []
    blocks: list[int] = []
    while reader.has(f"{FIRST_STAGE + len(widths)}.0.conv1.weight"):
        stage, count = FIRST_STAGE + len(widths), 0
        while reader.has(f"{stage}.{count}.conv1.weight"):
            reader.block(f"{stage}.{count}", f"blocks.{sum(blocks) + count}")
            count += 1
        last = reader.made[f"blocks.{sum(blocks) + count - 1}.conv2.weight"]
        widths.append(len(last))
        blocks.append(count)
    if not widths:
        raise InputError(f"{label}: the image encoder has no stages of a ResNet")
    made, kept = reader.made, reader.take
    made["maps.weight"] = kept(f"{names.maps}weight", whole=True)
    keypoints = len(made["maps.weight"])
    # There x and y of each position stand side by side, here first all x and then all y.
    output = kept(f"{names.output}weight", whole=True)
    if output.shape[1] != 2 * keypoints:
        raise InputError(f"{label}: {keypoints} keypoints do not fit {tuple(output.shape)}")
    made["output.weight"] = torch.cat([output[:, 0::2], output[:, 1::2]], dim=1)
    made["output.bias"] = kept(f"{names.output}bias", whole=True)
    made["positions.temperature"] = torch.ones(())
    seen = crop or resize or list(frame[:2])
    _check_grid(reader, names.grid, seen, len(widths), label)
    made["scale"] = torch.from_numpy(np.asarray(scale / 2, np.float32))
    made["shift"] = torch.from_numpy(np.asarray(shift + scale / 2, np.float32))
    options: dict[str, Any] = {
        "name": "rgb_resnet",
        "resize": resize,
        "crop": crop,
        "stem": len(made["stem.0.weight"]),
        "widths": widths,
        "blocks": blocks,
        "norm": "none" if reader.batch_norm else "group",
        "group_size": GROUP_SIZE,
        "keypoints": keypoints,
        "output_dim": len(output),
        "rectified": True,
        "rounded_centre": rounded_centre,
        "whole": False,
    }
    return Camera(options, made, len(output))


def _check_grid(reader: _Backbone, name: str, seen: list[int], stages: int, label: str) -> None:
    """Check that the positions of feature maps are those of images of this size."""
    grid = reader.weights.get(name)
    pixels = STEM_REDUCTION << (stages - 1)
    height, width = (-(-side // pixels) for side in seen)
    if grid is not None and len(grid) != height * width:
        raise InputError(
            f"{label}: '{name}' has {len(grid)} positions, expected {height} x {width} of images "
            f"of {seen[0]} x {seen[1]} pixels"
        )
    if min(height, width) < 2:
        raise InputError(
            f"{label}: images of {seen[0]} x {seen[1]} pixels have {height} x {width} positions; "
            "supported: at least 2 x 2"
        )


class _Backbone:
    """Takes the weights of a ResNet; each batch norm goes into the convolution before it."""

    def __init__(self, weights: Mapping[str, Tensor], label: str, prefix: str) -> None:
        self.weights, self.label, self.prefix = weights, label, prefix
        self.made: dict[str, Tensor] = {}
        self.batch_norm = self.has("1.running_mean")
        if self.has(f"{FIRST_STAGE}.0.conv3.weight"):
            raise InputError(
                f"{label}: the image encoder has bottleneck blocks (ResNet-50 or larger); "
                "supported: ResNet-18 and ResNet-34"
            )

    def has(self, name: str) -> bool:
        return self.prefix + name in self.weights

    def take(self, name: str, *, whole: bool = False) -> Tensor:
        name = name if whole else self.prefix + name
        if name not in self.weights:
            raise InputError(f"{self.label}: the image encoder's weight '{name}' is missing")
        return self.weights[name]

    def convolution(self, conv: str, norm: str, our_conv: str, our_norm: str) -> None:
        weight = self.take(f"{conv}.weight")
        scale, shift = self.take(f"{norm}.weight"), self.take(f"{norm}.bias")
        if not self.batch_norm:
            self.made[f"{our_conv}.weight"] = weight
            self.made[f"{our_norm}.weight"], self.made[f"{our_norm}.bias"] = scale, shift
            return
        variance = self.take(f"{norm}.running_var").double() + BATCH_NORM_EPSILON
        factor = scale.double() / variance.sqrt()
        bias = shift.double() - self.take(f"{norm}.running_mean").double() * factor
        self.made[f"{our_conv}.weight"] = (weight.double() * factor[:, None, None, None]).float()
        self.made[f"{our_conv}.bias"] = bias.float()

    def block(self, name: str, ours: str) -> None:
        for n in (1, 2):
            self.convolution(
                f"{name}.conv{n}", f"{name}.bn{n}", f"{ours}.conv{n}", f"{ours}.norm{n}"
            )
        if self.has(f"{name}.downsample.0.weight"):
            self.convolution(
                f"{name}.downsample.0",
                f"{name}.downsample.1",
                f"{ours}.shortcut.0",
                f"{ours}.shortcut.1",
            )
