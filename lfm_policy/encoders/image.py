"""What every image encoder and its configuration share: resizing, augmentation, one backbone."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lfm_policy.encoders.augment import (
    AugmentOptions,
    View,
    centre_crop,
    centre_view,
    change_colours,
    crop_images,
    random_view,
)
from lfm_policy.encoders.resize import Resize
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import option, options

MAX_IMAGE_SIDE = 4096
VIEW_SEED = 20_240

Side = Annotated[int, Field(ge=1, le=MAX_IMAGE_SIDE)]


class ImageEncoder(nn.Module):
    """Turns frames of one camera into feature vectors, each frame by itself.

    Subclasses implement `features`. In training mode every sample is cropped and changed at
    random, all frames of its history alike; otherwise the centre crop is seen.

    Attributes:
        frame_shape: (height, width, channels) of the camera.
        feature_dim: length of a frame's feature vector.
    """

    def __init__(
        self, config: ImageEncoderConfig, frame_shape: tuple[int, int, int], feature_dim: int
    ) -> None:
        super().__init__()
        self.frame_shape = frame_shape
        self.feature_dim = feature_dim
        self._size = config.resized(frame_shape)
        self._resize = (
            None if self._size == frame_shape[:2] else Resize(frame_shape[:2], self._size)
        )
        self._augment = config.augmentation()

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the weights that training leaves alone."""
        return []

    def load_pretrained(self) -> None:
        """Load the weights of a pretrained backbone; called once, when a training starts.

        Raises:
            InputError: they cannot be found, or do not fit.
        """

    def features(self, images: Tensor) -> Tensor:
        """Map (B, C, h, w) float32 from -1 to 1, channels last in memory, to (B, feature_dim)."""
        raise NotImplementedError

    def forward(self, frames: Tensor, view: View | None = None) -> Tensor:
        """Return the features of frames.

        Args:
            frames: (B, T, height, width, C) uint8.
            view: how each sample is seen; random in training and the centre otherwise if None.

        Returns:
            (B, T, feature_dim) float32.
        """
        n, steps = frames.shape[:2]
        if self._resize is not None:
            frames = self._resize(frames)
        if view is None and self.training:
            view = random_view(self._augment, n, self._size)
        size = self._augment.crop_of(*self._size)
        # The centre without numbers that depend on data, so that the encoder can be exported.
        images = centre_crop(frames, size) if view is None else crop_images(frames, view, size)
        images = images.to(torch.float32) / 255
        if view is not None and view.colour is not None:
            images = change_colours(images, view.colour)
        # A permuted view of (height, width, channels) is what convolutions call channels-last.
        flat = (images * 2 - 1).flatten(0, 1).permute(0, 3, 1, 2)
        return self.features(flat).unflatten(0, (n, steps))

    def fixed_view(self, number: int) -> View:
        """Return view 0, 1, ... for one sample: 0 is the centre, the others are always the same."""
        if number == 0:
            return centre_view(self._augment, 1, self._size)
        generator = torch.Generator().manual_seed(VIEW_SEED + number)
        return random_view(self._augment, 1, self._size, generator)


@options
class ImageEncoderConfig:
    """Options of an image encoder; subclasses add theirs and build the encoder.

    Adding one is one file with such a subclass, and its line in ``IMAGE_ENCODERS``.
    """

    name: str = option("", "which image encoder")
    resize: list[Side] = option(
        [],
        "height and width that images are resized to first; empty: as they are",
        common=True,
        max_length=2,
    )
    crop: list[Side] = option(
        [],
        "height and width of what is seen: a random part in training, the centre otherwise; "
        "empty: the whole image",
        common=True,
        max_length=2,
    )
    shift: int = option(0, "random shift in training, in pixels, edges repeated", ge=0, le=256)
    brightness: float = option(
        0.0, "largest random change in training, as a share of white", ge=0, le=1
    )
    contrast: float = option(0.0, "largest random change in training, as a share", ge=0, le=1)
    saturation: float = option(0.0, "largest random change in training, as a share", ge=0, le=1)

    def __post_init__(self) -> None:
        for key in ("resize", "crop"):
            sides = getattr(self, key)
            if len(sides) == 1:
                raise OptionError(key, f"is {sides}, expected height and width, or nothing")

    def resized(self, frame_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return height and width after resizing."""
        height, width = self.resize or frame_shape[:2]
        return int(height), int(width)

    def augmentation(self) -> AugmentOptions:
        """Return the options of cropping and augmentation."""
        return AugmentOptions(
            crop=(int(self.crop[0]), int(self.crop[1])) if self.crop else None,
            shift=self.shift,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
        )

    def resolved(self) -> ImageEncoderConfig:
        """Return the options with all that a checkpoint needs to build the encoder by itself.

        Raises:
            InputError: a pretrained backbone cannot be found.
        """
        return self

    def create(self, key: str, frame_shape: tuple[int, int, int]) -> ImageEncoder:
        """Build the encoder, with fresh weights from torch's global random numbers.

        Args:
            key: name of the camera, for messages.
            frame_shape: height, width, channels.

        Raises:
            InputError: this encoder cannot be made for such images.
        """
        height, width = self.resized(frame_shape)
        crop = self.augmentation().crop_of(height, width)
        if crop[0] > height or crop[1] > width:
            raise InputError(
                f"images '{key}' are {height} x {width} pixels, smaller than the crop "
                f"{crop[0]} x {crop[1]} that the encoder is asked to see: choose a smaller crop, "
                "or resize"
            )
        return self._build(frame_shape, crop)

    def _build(self, frame_shape: tuple[int, int, int], crop: tuple[int, int]) -> ImageEncoder:
        raise NotImplementedError(f"{type(self).__name__} does not build an encoder")
