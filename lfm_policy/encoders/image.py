"""What image encoders and their configurations share, and which of them there are."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.encoders.augment import (
    AugmentOptions,
    View,
    centre_crop,
    centre_view,
    change_colours,
    crop_images,
    random_view,
)
from lfm_policy.errors import InputError
from lfm_policy.networks.checks import check_float, check_int, check_ints, check_own_name
from lfm_runtime.registry import Registry

MAX_IMAGE_SIDE = 4096
VIEW_SEED = 20_240
TIE = 0.49
"""Added before rounding down. Averages of whole numbers often lie exactly half way between two
levels, where the last bit, which differs between machines, would decide; a hundredth beside that,
it has no say."""


class Resize(nn.Module):
    """Bilinear resizing with antialiasing, as two matrix products.

    The weights are those of torch's interpolation. As matrices they can be exported: ONNX
    Runtime's own antialiasing differs from it by up to 13 levels of 255 (version 1.31).
    """

    def __init__(self, size_in: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("_rows", _weights(size_in[0], size[0]), persistent=False)
        self.register_buffer("_columns", _weights(size_in[1], size[1]).T, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return resized images in whole levels, as they would have been recorded at this size.

        Args:
            frames: (B, T, height, width, C) uint8.

        Returns:
            (B, T, new height, new width, C) uint8.
        """
        n, steps = frames.shape[:2]
        images = rearrange(frames.flatten(0, 1), "n h w c -> n c h w").to(torch.float32)
        resized = self.get_buffer("_rows") @ images @ self.get_buffer("_columns")
        whole = (resized + TIE).floor().clamp(0, 255).to(torch.uint8)
        return rearrange(whole, "n c h w -> n h w c").unflatten(0, (n, steps))


def _weights(size_in: int, size: int) -> Tensor:
    """Return the matrix (size, size_in) that resizes a column."""
    columns = torch.eye(size_in)[None, None]
    return functional.interpolate(columns, (size, size_in), mode="bilinear", antialias=True)[0, 0]


class SpatialSoftmax(nn.Module):
    """Expected position of each map under its softmax (Finn et al. 2016, arXiv:1509.06113).

    Maps (B, K, h, w) to (B, 2 K): all x, then all y, from -1 to 1.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        x = torch.linspace(-1, 1, width) if width > 1 else torch.zeros(1)
        y = torch.linspace(-1, 1, height) if height > 1 else torch.zeros(1)
        self._n_positions = height * width
        grid = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)
        self.register_buffer("_grid", grid, persistent=False)
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the positions, (B, 2 K)."""
        grid = self.get_buffer("_grid")
        attention = torch.softmax(maps.flatten(2) / self.temperature, dim=2)
        return rearrange(attention @ grid, "n k xy -> n (xy k)")


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
        flat = rearrange((images * 2 - 1).flatten(0, 1), "n h w c -> n c h w")
        return self.features(flat).unflatten(0, (n, steps))

    def fixed_view(self, number: int) -> View:
        """Return view 0, 1, ... for one sample: 0 is the centre, the others are always the same."""
        if number == 0:
            return centre_view(self._augment, 1, self._size)
        generator = torch.Generator().manual_seed(VIEW_SEED + number)
        return random_view(self._augment, 1, self._size, generator)


@dataclass
class ImageEncoderConfig:
    """Options of an image encoder; subclasses add theirs and build the encoder.

    Adding one is one file with such a subclass, and its line in `IMAGE_ENCODERS`.
    """

    name: str = field(default="", metadata={"help": "which image encoder"})
    resize: list[int] = field(
        default_factory=list,
        metadata={"help": "height and width that images are resized to first; empty: as they are"},
    )
    crop: list[int] = field(
        default_factory=list,
        metadata={
            "help": "height and width of what is seen: a random part in training, the centre "
            "otherwise; empty: the whole image"
        },
    )
    shift: int = field(
        default=0, metadata={"help": "random shift in training, in pixels, edges repeated"}
    )
    brightness: float = field(
        default=0.0, metadata={"help": "largest random change in training, as a share of white"}
    )
    contrast: float = field(
        default=0.0, metadata={"help": "largest random change in training, as a share"}
    )
    saturation: float = field(
        default=0.0, metadata={"help": "largest random change in training, as a share"}
    )

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            InputError: an option is out of range; the message prints it.
        """
        check_own_name(self)
        for key in ("resize", "crop"):
            check_ints(self, key, low=1, high=MAX_IMAGE_SIDE, min_length=0, max_length=2)
            if len(getattr(self, key)) == 1:
                raise InputError(
                    f"{type(self).__name__}.{key} is {getattr(self, key)}, expected height and "
                    "width, or nothing"
                )
        check_int(self, "shift", low=0, high=256)
        for key in ("brightness", "contrast", "saturation"):
            check_float(self, key, low=0.0, high=1.0)

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


IMAGE_ENCODERS: Registry[type[ImageEncoderConfig]] = Registry(
    "image encoder",
    {
        "compact": "lfm_policy.encoders.compact:CompactConfig",
        "resnet18": "lfm_policy.encoders.resnet18:ResNet18Config",
        "pretrained": "lfm_policy.encoders.pretrained.encoder:PretrainedConfig",
    },
)
