"""What every image encoder and its configuration share: resizing, augmentation, one backbone."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from lfm_policy.data.images.resize import Resize
from lfm_policy.encoders.augment import (
    View,
    centre_crop,
    centre_view,
    change_colours,
    crop_images,
    random_view,
)
from lfm_policy.encoders.image_options import ImageEncoderConfig

VIEW_SEED = 20_240


class ImageEncoder(nn.Module):
    """Turns frames of one camera into feature vectors, each frame by itself.

    Subclasses implement `features`. In training mode every sample is cropped and changed at
    random, all frames of its history alike; otherwise the centre crop is seen.

    Attributes:
        same_work: see `ObsEncoder`.
        frame_shape: (height, width, channels) of the camera.
        resized_shape: the same after resizing; frames of this shape are taken, too.
        feature_dim: length of a frame's feature vector.
    """

    same_work: bool = False

    def __init__(
        self, config: ImageEncoderConfig, frame_shape: tuple[int, int, int], feature_dim: int
    ) -> None:
        super().__init__()
        self.frame_shape = frame_shape
        self.feature_dim = feature_dim
        self._size = config.resized(frame_shape)
        self.resized_shape = (*self._size, frame_shape[2])
        self._resize = (
            None
            if self._size == frame_shape[:2]
            else Resize(frame_shape[:2], self._size, whole=config.whole_levels)
        )
        self._config = config

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
            frames: (B, T, height, width, C) uint8, as recorded or resized already.
            view: how each sample is seen; random in training and the centre otherwise if None.

        Returns:
            (B, T, feature_dim) float32.
        """
        n, steps = frames.shape[:2]
        if self._resize is not None and frames.shape[2:4] != self._size:
            frames = self._resize(frames)
        if view is None and self.training:
            on_gpu = frames.device if frames.device.type != "cpu" else None
            view = random_view(self._config, n, self._size, device=on_gpu)
        size = self._config.crop_of(self._size)
        # The centre without numbers that depend on data, so that the encoder can be exported.
        first = self._config.centre_of(self._size)
        images = (
            centre_crop(frames, first, size) if view is None else crop_images(frames, view, size)
        )
        # In place, because fresh memory takes a CPU longer than the arithmetic.
        images = images.to(torch.float32).div_(255)
        if view is not None and view.colour is not None:
            images = change_colours(images, view.colour)
        # A permuted view of (height, width, channels) is what convolutions call channels-last.
        flat = rearrange(images.mul_(2).sub_(1).flatten(0, 1), "n h w c -> n c h w")
        return self.features(flat).unflatten(0, (n, steps))

    def fixed_view(self, number: int) -> View:
        """Return view 0, 1, ... for one sample: 0 is the centre, the others are always the same."""
        if number == 0:
            return centre_view(self._config, 1, self._size)
        generator = torch.Generator().manual_seed(VIEW_SEED + number)
        return random_view(self._config, 1, self._size, generator)
