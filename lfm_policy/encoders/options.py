"""Options of the encoders; light to import, so that a misspelt one is said at once.

Those of pretrained backbones stand beside their code, which needs the transformers library.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from lfm_policy.encoders.image_options import AUTO, ImageEncoderConfig
from lfm_policy.errors import InputError, OptionError, dotted
from lfm_policy.networks.options import MAX_WIDTH
from lfm_policy.options import Chosen, checked, declared, option, options
from lfm_runtime.policy.spec import is_image
from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from lfm_policy.encoders.base import ObsEncoder

# Bounds that no real robot reaches; a configuration may come from somebody else's checkpoint and
# must not be able to ask for absurd amounts of memory.
MAX_OBS_STEPS = 4096
MAX_OBS_SIZE = 1 << 26

ACTIVATIONS: Registry[type[nn.Module]] = Registry(
    "activation",
    {
        "silu": "torch.nn:SiLU",
        "mish": "torch.nn:Mish",
        "gelu": "torch.nn:GELU",
        "relu": "torch.nn:ReLU",
    },
)

DIFFERENCES = "differences"

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

    def with_sizes(
        self, obs_shapes: Mapping[str, tuple[int, ...]], *, resized: bool = True
    ) -> EncoderConfig:
        """Return the options with the sizes of images where these were left to the encoder.

        Args:
            obs_shapes: shape of one frame of each observation, as it is recorded.
            resized: False to leave large images as they are.
        """
        return self

    def frame_size(self, key: str, frame_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return the height and width to which frames of camera ``key`` may be resized beforehand.

        The encoder takes both, frames as they are recorded and frames of this size.
        """
        return frame_shape[:2]

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
        built: ObsEncoder = resolve_name(self.BUILDS)(self, obs_shapes, n_obs_steps)
        return built


@options
class StateEncoderConfig(EncoderConfig):
    """Options of the state encoder; by default it has no parameters."""

    BUILDS: ClassVar[str] = "lfm_policy.encoders.state:StateEncoder"

    name: str = option(
        "state",
        "what the policy observes: state for numbers alone, cameras for images and numbers",
        choices=["state"],
    )
    hidden: list[Annotated[int, Field(ge=1, le=MAX_WIDTH)]] = option(
        [],
        "widths of hidden layers; empty passes the observations on as they are",
        max_length=32,
    )
    output_dim: int = option(
        0,
        "length of the condition vector; 0 for the last width of hidden",
        ge=0,
        le=MAX_WIDTH,
    )
    activation: str = option("silu", "after each hidden layer", choices=ACTIVATIONS)
    history: str = option(
        "frames",
        "what the frames of history give: themselves, or the newest itself and each older one its "
        "difference to the next, eightfold, by which small motions weigh more",
        choices=["frames", DIFFERENCES],
    )

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

    def frame_size(self, key: str, frame_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return the height and width of resized frames; see `EncoderConfig.frame_size`."""
        return self.image_config(key).resized(frame_shape)

    def with_sizes(
        self, obs_shapes: Mapping[str, tuple[int, ...]], *, resized: bool = True
    ) -> CamerasConfig:
        """Return the options with the sizes of images; see `EncoderConfig.with_sizes`.

        Options of cameras whose images stay as they are do not change.
        """
        sizes: dict[str, list[int]] = {}
        for key, shape in obs_shapes.items():
            if is_image(shape) and self.image_config(key).resize == AUTO:
                size = self.frame_size(key, (shape[0], shape[1], shape[2]))
                if size != tuple(shape[:2]):
                    sizes[key] = list(size) if resized else []
        if not sizes:
            return self
        first, *others = sizes.values()
        n_cameras = sum(map(is_image, obs_shapes.values()))
        own = any("resize" in options for options in self.cameras.values())
        alike = len(sizes) == n_cameras and all(size == first for size in others)
        if self.shared or (alike and not own):
            return dataclasses.replace(self, image={**self.image, "resize": first})
        each = {key: {**self.cameras.get(key, {}), "resize": size} for key, size in sizes.items()}
        return dataclasses.replace(self, cameras={**self.cameras, **each})
