"""Options of the image encoders that need no library of their own; light to import."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import option, options

if TYPE_CHECKING:
    from lfm_policy.encoders.image import ImageEncoder

MAX_IMAGE_SIDE = 4096
GROUPS = 4
"""Of the norms of the compact encoder."""
GROUP_SIZE = 16
"""Channels per group of the norms of ResNet-18."""

Side = Annotated[int, Field(ge=1, le=MAX_IMAGE_SIDE)]
SideOrShare = Annotated[int | float, Field(ge=0.01, le=MAX_IMAGE_SIDE)]

AUTO = "auto"
EACH = "each"


@options
class ImageEncoderConfig:
    """Options of an image encoder; subclasses add theirs and say what they build.

    Adding one is one file with such a subclass, and its line in ``IMAGE_ENCODERS``. Where the
    encoder is in another file than its options, ``BUILDS`` says where; else `_build` makes it.
    """

    BUILDS: ClassVar[str] = ""
    """``module:Class``, called with the options, height, width and channels, and what is seen."""
    SMALLEST: ClassVar[int] = 1
    """Pixels that must be seen in each direction."""
    LARGEST: ClassVar[int] = 128
    """Pixels of the larger side above which images are resized where ``resize`` is auto."""

    name: str = option("", "which image encoder")
    resize: list[Side] | Literal["auto"] = option(
        AUTO,
        "height and width that images are resized to first; auto: images with a side above 128 "
        "pixels (224 for pretrained backbones) so that it has as many; []: as they are",
        common=True,
    )
    crop: list[SideOrShare] = option(
        [],
        "height and width of what is seen after resizing, in pixels or, below 1, as shares: a "
        "random part in training, the centre otherwise; empty: the whole image",
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
            if sides != AUTO and len(sides) not in (0, 2):
                raise OptionError(key, f"is {sides}, expected height and width, or nothing")
        if any(side > 1 and side != int(side) for side in self.crop):
            raise OptionError(
                "crop", f"is {self.crop}, expected whole numbers of pixels, or shares below 1"
            )

    def resized(self, frame_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return height and width after resizing."""
        height, width = frame_shape[:2]
        if isinstance(self.resize, list):
            height, width = self.resize or (height, width)
        elif max(height, width) > self.LARGEST:
            share, step = self.LARGEST / max(height, width), self._step()
            height, width = (max(step, round(s * share / step) * step) for s in (height, width))
        return int(height), int(width)

    def _step(self) -> int:
        """Return what the sides that are chosen here are multiples of."""
        return 4

    def crop_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what is seen of images of this size, after resizing."""
        height, width = (
            max(1, round(side * part)) if part < 1 else int(part)
            for side, part in zip(size, self.crop or size, strict=True)
        )
        return height, width

    def centre_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return first row and column of the centre crop of images of this size."""
        height, width = self.crop_of(size)
        return (size[0] - height) // 2, (size[1] - width) // 2

    @property
    def whole_levels(self) -> bool:
        """Whether resized frames are in whole levels, as a camera of that size records them."""
        return True

    def smallest(self) -> tuple[int, int]:
        """Return how many pixels an image must have at least along its short and its long side."""
        return self.SMALLEST, self.SMALLEST

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
        crop = self.crop_of((height, width))
        if crop[0] > height or crop[1] > width:
            raise InputError(
                f"images '{key}' are {height} x {width} pixels, smaller than the crop "
                f"{crop[0]} x {crop[1]} that the encoder is asked to see: choose a smaller crop, "
                "or resize"
            )
        short, long = self.smallest()
        if min(crop) < short or max(crop) < long:
            raise InputError(
                f"the '{self.name}' encoder sees {crop[0]} x {crop[1]} pixels, expected at least "
                f"{short} x {long}"
            )
        return self._build(frame_shape, crop)

    def _build(self, frame_shape: tuple[int, int, int], crop: tuple[int, int]) -> ImageEncoder:
        built: ImageEncoder = resolve_name(self.BUILDS)(self, frame_shape, crop)
        return built


@options
class CompactConfig(ImageEncoderConfig):
    """Options of the compact encoder."""

    BUILDS: ClassVar[str] = "lfm_policy.encoders.compact:CompactEncoder"
    SMALLEST: ClassVar[int] = 16

    name: str = option("compact", "which image encoder", choices=["compact"])
    width: int = option(
        32,
        "channels after the first layer, twice as many after that",
        common=True,
        ge=GROUPS,
        le=1024,
        multiple_of=GROUPS,
    )
    n_blocks: int = option(1, "residual blocks", ge=0, le=32)
    keypoints: int = option(
        32, "positions found in the image; a feature vector has x and y of each", ge=1, le=4096
    )
    fine_keypoints: int = option(
        0,
        "further positions, found at twice the resolution: where small things are, more precisely",
        ge=0,
        le=4096,
    )
    spread: bool = option(
        False,
        "of each keypoint its variances and covariance, too: how long what it sees is, and along "
        "which line",
    )
    values: int = option(
        0,
        "of each keypoint so many numbers of what is there, too: means of further maps under its "
        "softmax (attention pooling)",
        ge=0,
        le=64,
    )
    coordinates: bool = option(False, "let the layers know where in the image they are (CoordConv)")
    temperature: float = option(
        1.0,
        "of the softmax over a map, with which learning begins: below 1 keypoints are sharper from "
        "the first step on, and learn sooner",
        ge=1e-3,
        le=1e3,
    )
    temperatures: str = option(
        "one",
        "learned temperature of the softmax: one of all keypoints, or each its own",
        choices=["one", EACH],
    )
    output_dim: int = option(
        0,
        "length of a frame's feature vector: a linear layer; 0: the keypoints' numbers themselves",
        ge=0,
        le=16384,
    )

    @property
    def n_numbers(self) -> int:
        """How many numbers all keypoints of a frame have."""
        of_each = (5 if self.spread else 2) + self.values
        return of_each * (self.keypoints + self.fine_keypoints)

    @property
    def feature_dim(self) -> int:
        """Length of a frame's feature vector."""
        return self.output_dim or self.n_numbers


@options
class ResNet18Config(ImageEncoderConfig):
    """Options of ResNet-18 (He et al. 2015, arXiv:1512.03385)."""

    BUILDS: ClassVar[str] = "lfm_policy.encoders.resnet18:ResNet18Encoder"
    SMALLEST: ClassVar[int] = 32

    name: str = option("resnet18", "which image encoder", choices=["resnet18"])
    width: int = option(
        64,
        "channels of the first stage, doubled in each later one",
        common=True,
        ge=GROUP_SIZE,
        le=1024,
        multiple_of=GROUP_SIZE,
    )
    keypoints: int = option(32, "positions found in the image (spatial softmax)", ge=1, le=4096)
    output_dim: int = option(64, "length of a frame's feature vector", ge=1, le=16384)

    def smallest(self) -> tuple[int, int]:
        """See `ImageEncoderConfig`: in a single place keypoints see nothing."""
        return self.SMALLEST, self.SMALLEST + 1


@options
class ResNetConfig(ImageEncoderConfig):
    """Options of a ResNet as LeRobot, Diffusion Policy and robomimic have it."""

    BUILDS: ClassVar[str] = "lfm_policy.encoders.resnet:ResNetEncoder"

    name: str = option("rgb_resnet", "which image encoder", choices=["rgb_resnet"])
    stem: int = option(64, "channels of the first layer", ge=1, le=4096)
    widths: list[Annotated[int, Field(ge=1, le=4096)]] = option(
        [64, 128, 256, 512],
        "channels of each stage; each after the first halves the image",
        min_length=1,
        max_length=4,
    )
    blocks: list[Annotated[int, Field(ge=1, le=64)]] = option(
        [2, 2, 2, 2], "blocks of each stage: [3, 4, 6, 3] is ResNet-34", min_length=1, max_length=4
    )
    norm: str = option(
        "group",
        "group norms after convolutions, or none: biases instead, into which imported batch norms "
        "go",
        choices=["group", "none"],
    )
    group_size: int = option(GROUP_SIZE, "channels per group of the norms", ge=1, le=4096)
    keypoints: int = option(32, "positions found in the image (spatial softmax)", ge=1, le=4096)
    output_dim: int = option(64, "length of a frame's feature vector", ge=1, le=16384)
    rectified: bool = option(True, "whether features below 0 are cut off")
    rounded_centre: bool = option(
        False,
        "where the centre crop cannot have equal margins, round as torchvision does (half a pixel "
        "to the even one) and not down",
    )
    whole: bool = option(
        True, "round resized frames to whole levels of 255, as a camera of that size records them"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.blocks) != len(self.widths):
            raise OptionError(
                "blocks", f"is {self.blocks}, expected as many numbers as widths, {self.widths}"
            )
        uneven = [w for w in (self.stem, *self.widths) if w % self.group_size]
        if self.norm == "group" and uneven:
            raise OptionError(
                "group_size", f"is {self.group_size}, expected a divisor of {uneven[0]} channels"
            )

    @property
    def whole_levels(self) -> bool:
        """See `ImageEncoderConfig`."""
        return self.whole

    def smallest(self) -> tuple[int, int]:
        """See `ImageEncoderConfig`: in a single place keypoints see nothing."""
        reduction = 4 << (len(self.widths) - 1)
        return reduction, reduction + 1

    def centre_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return first row and column of the centre crop; see ``rounded_centre``."""
        if not self.rounded_centre:
            return super().centre_of(size)
        height, width = self.crop_of(size)
        return round((size[0] - height) / 2), round((size[1] - width) / 2)
