"""Options of the encoders; light to import, so that a misspelt one is said at once.

Those of pretrained backbones stand beside their code, which needs the transformers library.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from lfm_policy.errors import InputError, OptionError, dotted
from lfm_policy.networks.options import MAX_WIDTH
from lfm_policy.options import Chosen, checked, declared, option, options
from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from lfm_policy.encoders.base import ObsEncoder
    from lfm_policy.encoders.image import ImageEncoder

# Bounds that no real robot reaches; a configuration may come from somebody else's checkpoint and
# must not be able to ask for absurd amounts of memory.
MAX_OBS_STEPS = 4096
MAX_OBS_SIZE = 1 << 26
MAX_IMAGE_SIDE = 4096
GROUPS = 4
"""Of the norms of the compact encoder."""
GROUP_SIZE = 16
"""Channels per group of the norms of ResNet-18."""

Side = Annotated[int, Field(ge=1, le=MAX_IMAGE_SIDE)]

ACTIVATIONS: Registry[type[nn.Module]] = Registry(
    "activation",
    {
        "silu": "torch.nn:SiLU",
        "mish": "torch.nn:Mish",
        "gelu": "torch.nn:GELU",
        "relu": "torch.nn:ReLU",
    },
)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


IMAGE_SECTION = Chosen("image encoder", "compact")
"""The section ``image``, and what `cameras` makes of it for a camera."""


@options
class EncoderConfig:
    """Options of an observation encoder; subclasses add theirs and say what they build.

    Adding an encoder is one file with such a subclass, and its line in ``ENCODERS``. Where the
    encoder is in another file than its options, ``BUILDS`` says where; else `_build` makes it.
    """

    BUILDS: ClassVar[str] = ""
    """``module:Class``, called with the options, the shapes of observations, and frames."""

    name: str = option("", "which observation encoder")

    @property
    def learns(self) -> bool:
        """Whether it has weights that training changes, for `training.encoder: auto`."""
        return False

    def resolved(self) -> EncoderConfig:
        """Return the options with all that a checkpoint needs to build the encoder by itself.

        Raises:
            InputError: a pretrained backbone cannot be found.
        """
        return self

    def create(self, obs_shapes: Mapping[str, tuple[int, ...]], n_obs_steps: int) -> ObsEncoder:
        """Build the encoder, with fresh weights from torch's global random numbers.

        Args:
            obs_shapes: shape of one frame of each observation, such as {"agent_pos": (2,)}. The
                encoder sorts the names: their order here does not change its result. Empty for a
                flow without observations.
            n_obs_steps: frames of history, at least 1.

        Raises:
            InputError: this encoder cannot be made for these observations.
        """
        if not 1 <= n_obs_steps <= MAX_OBS_STEPS:
            raise InputError(f"n_obs_steps is {n_obs_steps}, expected 1 to {MAX_OBS_STEPS}")
        shapes = {key: tuple(int(size) for size in obs_shapes[key]) for key in sorted(obs_shapes)}
        for key, shape in shapes.items():
            if min(shape, default=1) < 1 or math.prod(shape) > MAX_OBS_SIZE:
                raise InputError(
                    f"observation '{key}' has shape {shape}, expected sizes of at least 1 and at "
                    f"most {MAX_OBS_SIZE} numbers in all"
                )
        return self._build(shapes, int(n_obs_steps))

    def _build(self, obs_shapes: dict[str, tuple[int, ...]], n_obs_steps: int) -> ObsEncoder:
        built: ObsEncoder = _imported(self.BUILDS)(self, obs_shapes, n_obs_steps)
        return built


@options
class StateEncoderConfig(EncoderConfig):
    """Options of the state encoder; by default it has no parameters."""

    BUILDS: ClassVar[str] = "lfm_policy.encoders.state:StateEncoder"

    name: str = option("state", "which observation encoder", choices=["state"])
    hidden: list[Annotated[int, Field(ge=1, le=MAX_WIDTH)]] = option(
        [],
        "widths of hidden layers; empty passes the observations on as they are",
        common=True,
        max_length=32,
    )
    output_dim: int = option(
        0,
        "length of the condition vector; 0 for the last width of hidden",
        ge=0,
        le=MAX_WIDTH,
    )
    activation: str = option("silu", "after each hidden layer", choices=ACTIVATIONS)

    def __post_init__(self) -> None:
        if self.output_dim and not self.hidden:
            raise OptionError(
                "output_dim",
                f"is {self.output_dim}, expected 0 when hidden is empty: without layers the "
                "observations are passed on as they are",
            )

    @property
    def learns(self) -> bool:
        """Whether there are layers."""
        return bool(self.hidden)

    def cond_dim(self, history_size: int) -> int:
        """Return the length of the condition for a history of so many numbers."""
        # Without observations there is nothing to encode, whatever the layers.
        if not self.hidden or not history_size:
            return history_size
        return self.output_dim or self.hidden[-1]


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

    def crop_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what is seen of images of this size, after resizing."""
        height, width = self.crop or size
        return int(height), int(width)

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
        if min(crop) < self.SMALLEST:
            raise InputError(
                f"the '{self.name}' encoder sees {crop[0]} x {crop[1]} pixels, expected at least "
                f"{self.SMALLEST} x {self.SMALLEST}"
            )
        return self._build(frame_shape, crop)

    def _build(self, frame_shape: tuple[int, int, int], crop: tuple[int, int]) -> ImageEncoder:
        built: ImageEncoder = _imported(self.BUILDS)(self, frame_shape, crop)
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
        32, "positions found in the image; a feature vector has x and y", ge=1, le=4096
    )


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


@options
class CamerasConfig(StateEncoderConfig):
    """Options of the encoder of images: one image encoder per camera, or one for all."""

    BUILDS: ClassVar[str] = "lfm_policy.encoders.cameras:CamerasEncoder"

    name: str = option("cameras", "which observation encoder", choices=["cameras"])
    image: dict[str, Any] = option(
        {"name": "compact"},
        "options of the image encoders, such as {name: compact, crop: [84, 84]}",
        common=True,
        section=IMAGE_SECTION,
    )
    cameras: dict[str, Any] = option(
        {}, "changes to `image` by camera, such as {wrist: {name: resnet18}}"
    )
    shared: bool = option(False, "one image encoder for all cameras, with the same weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("", *self.cameras):
            self.image_config(key)
        if self.shared and self.cameras:
            raise OptionError(
                "shared",
                f"is true and cameras changes {', '.join(self.cameras)}: one image encoder for all "
                "cameras has one set of options; remove one of them",
            )

    @property
    def learns(self) -> bool:
        """Whether there are weights to train: every image encoder has some."""
        return True

    def image_config(self, key: str) -> ImageEncoderConfig:
        """Return the options of the image encoder of a camera; of no camera in particular for "".

        Raises:
            OptionError: an option is unknown or out of range.
        """
        section, changes = self._section(key), self.cameras.get(key, {})
        if not isinstance(changes, Mapping):
            raise OptionError(section, f"is {changes!r}, expected options and values")
        common = {"name": IMAGE_SECTION.default, **self.image}
        if changes.get("name", common["name"]) != common["name"]:
            # Another kind of encoder has only the general options in common.
            general = declared(ImageEncoderConfig).keys() - {"name"}
            common = {name: value for name, value in common.items() if name in general}
        given = {**common, **changes}
        try:
            config: ImageEncoderConfig = checked(IMAGE_SECTION.options_class(given), given)
        except OptionError as error:
            raise error.under(*section) from None
        return config

    def _section(self, key: str) -> tuple[str, ...]:
        return ("cameras", key) if key in self.cameras else ("image",)

    def resolved(self) -> CamerasConfig:
        """Return the options with all that a checkpoint needs to build the encoder by itself.

        Raises:
            InputError: a pretrained backbone cannot be found.
        """
        cameras = {key: {**self.cameras[key], **self._found_out(key)} for key in self.cameras}
        return dataclasses.replace(
            self, image={**self.image, **self._found_out("")}, cameras=cameras
        )

    def _found_out(self, key: str) -> dict[str, Any]:
        """Return the options of a camera's image encoder that resolving it changes."""
        config = self.image_config(key)
        try:
            resolved = dataclasses.asdict(config.resolved())
        except OptionError as error:
            raise error.under("encoder", *self._section(key)) from None
        except InputError as error:
            raise InputError(f"{dotted(('encoder', *self._section(key)))}: {error}") from None
        before = dataclasses.asdict(config)
        return {name: value for name, value in resolved.items() if value != before[name]}
