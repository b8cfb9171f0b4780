"""What every image encoder and its configuration share: resizing, augmentation, one backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lfm_policy.encoders.augment import (
    View,
    centre_crop,
    centre_view,
    change_colours,
    crop_images,
    random_view,
)
from lfm_policy.encoders.options import ImageEncoderConfig
from lfm_policy.encoders.resize import Resize

VIEW_SEED = 20_240

__all__ = ["ImageEncoder", "ImageEncoderConfig"]


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
