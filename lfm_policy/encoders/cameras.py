"""Encoder of camera images and low-dimensional observations together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.encoders.image import ImageEncoder, ImageEncoderConfig
from lfm_policy.encoders.image_encoders import IMAGE_ENCODERS
from lfm_policy.encoders.state import StateEncoderConfig
from lfm_policy.errors import InputError
from lfm_policy.networks.base import MAX_COND_DIM
from lfm_runtime.policy.spec import is_image
from lfm_runtime.registry import nearest_names

SHARED = "shared"


@dataclass
class CamerasConfig(StateEncoderConfig):
    """Options of the encoder of images: one image encoder per camera, or one for all."""

    name: str = field(default="cameras", metadata={"help": "which observation encoder"})
    image: dict[str, Any] = field(
        default_factory=lambda: {"name": "compact"},
        metadata={
            "help": "options of the image encoders, such as {name: compact, crop: [84, 84]}; "
            "names: " + ", ".join(IMAGE_ENCODERS.names())
        },
    )
    cameras: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "changes to `image` by camera, such as {wrist: {name: resnet18}}"},
    )
    shared: bool = field(
        default=False, metadata={"help": "one image encoder for all cameras, with the same weights"}
    )

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            InputError: an option is unknown or out of range; the message prints it.
        """
        super().__post_init__()
        self.image_config("")
        for key in self.cameras:
            self.image_config(key)
        if self.shared and self.cameras:
            raise InputError(
                f"CamerasConfig.shared is true and cameras changes {', '.join(self.cameras)}: one "
                "image encoder for all cameras has one set of options; remove one of them"
            )

    def image_config(self, key: str) -> ImageEncoderConfig:
        """Return the options of the image encoder of a camera; of no camera in particular for "".

        Raises:
            InputError: an option is unknown or out of range.
        """
        label = self._label(key)
        changes = self.cameras.get(key, {})
        if not isinstance(changes, Mapping):
            raise InputError(f"{label} is {changes!r}, expected options and values")
        common = dict(self.image)
        if changes.get("name", common.get("name")) != common.get("name"):
            # Another kind of encoder has only the general options in common.
            general = {f.name for f in dataclasses.fields(ImageEncoderConfig)} - {"name"}
            common = {name: value for name, value in common.items() if name in general}
        options = {**common, **changes}
        try:
            chosen = IMAGE_ENCODERS.get(str(options.get("name", "")))
        except InputError as error:
            raise InputError(f"{label}.name: {error}") from None
        known = {f.name: f.type for f in dataclasses.fields(chosen)}
        schema = OmegaConf.structured(chosen)
        for name, value in options.items():
            if name not in known:
                hint = nearest_names(str(name), list(known))
                raise InputError(f"{label} has an unknown key '{name}': {hint}")
            try:
                schema.merge_with({name: value})
            except (OmegaConfBaseException, ValueError):
                found = repr(value)[:200]
                raise InputError(f"{label}.{name}: found {found}, expected {known[name]}") from None
        try:
            config = OmegaConf.to_object(schema)
        except (OmegaConfBaseException, ValueError) as error:
            raise InputError(f"{label}: {str(error).splitlines()[0]}") from None
        assert isinstance(config, ImageEncoderConfig)
        return config

    def _label(self, key: str) -> str:
        return f"encoder.cameras.{key}" if key in self.cameras else "encoder.image"

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
        except InputError as error:
            raise InputError(f"{self._label(key)}: {error}") from None
        before = dataclasses.asdict(config)
        return {name: value for name, value in resolved.items() if value != before[name]}

    def _build(self, obs_shapes: dict[str, tuple[int, ...]], n_obs_steps: int) -> ObsEncoder:
        return CamerasEncoder(self, obs_shapes, n_obs_steps)


class CamerasEncoder(ObsEncoder):
    """Features of all cameras and the low-dimensional observations of all frames, as one vector.

    The vector is ordered by frame, oldest first, and within a frame by the name of the observation;
    it goes through an MLP if there are hidden layers.
    """

    def __init__(
        self, config: CamerasConfig, obs_shapes: dict[str, tuple[int, ...]], n_obs_steps: int
    ) -> None:
        cameras = {
            key: (shape[0], shape[1], shape[2])
            for key, shape in obs_shapes.items()
            if is_image(shape)
        }
        _check_cameras(config, obs_shapes, tuple(cameras))
        if config.shared:
            first, *others = cameras
            for key in others:
                if cameras[key] != cameras[first]:
                    raise InputError(
                        f"encoder.shared is true, but images '{first}' have shape {cameras[first]} "
                        f"and images '{key}' {cameras[key]}: one encoder sees one shape"
                    )
            one = config.image_config("").create(first, cameras[first])
            image_encoders = dict.fromkeys(cameras, one)
            modules = {SHARED: one}
        else:
            image_encoders = {
                key: config.image_config(key).create(key, shape) for key, shape in cameras.items()
            }
            # A module's name may hold no dot, an observation's may.
            modules = {f"camera{i}": module for i, module in enumerate(image_encoders.values())}
        sizes = {
            key: image_encoders[key].feature_dim if key in cameras else math.prod(shape)
            for key, shape in obs_shapes.items()
        }
        history_size = n_obs_steps * sum(sizes.values())
        if history_size > MAX_COND_DIM:
            raise InputError(
                f"features and observations have {history_size} numbers in {n_obs_steps} frames, "
                f"the 'cameras' encoder takes at most {MAX_COND_DIM}; lower n_obs_steps or leave "
                "some out"
            )
        super().__init__(obs_shapes, n_obs_steps, config.cond_dim(history_size))
        self._sizes = sizes
        self.image_encoders = nn.ModuleDict(modules)
        self._by_key = image_encoders
        self.layers = config.layers(history_size)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self._by_key)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights that training changes, by name; those of frozen backbones are not."""
        frozen = {
            id(parameter)
            for module in self._by_key.values()
            for parameter in module.frozen_parameters()
        }
        # Named as in state dicts; a backbone's own names depend on the library's version.
        return {
            name: tensor
            for name, tensor in self.state_dict(keep_vars=True).items()
            if isinstance(tensor, nn.Parameter) and id(tensor) not in frozen
        }

    def load_pretrained(self) -> None:
        """Load the weights of pretrained backbones.

        Raises:
            InputError: they cannot be found, or do not fit.
        """
        for module in self.image_encoders.values():
            assert isinstance(module, ImageEncoder)
            module.load_pretrained()

    def image_encoder(self, key: str) -> ImageEncoder:
        """Return the encoder of a camera."""
        return self._by_key[key]

    def feature_dim(self, key: str) -> int:
        """Return the length of the feature vector of a frame of camera ``key``."""
        return self._by_key[key].feature_dim

    def frame_features(self, key: str, frames: Tensor, view: int) -> Tensor:
        """Return the features of single frames in a fixed view; see `ObsEncoder`."""
        module = self._by_key[key]
        seen = module.fixed_view(view).repeat(len(frames))
        features: Tensor = module(frames[:, None], seen)[:, 0]
        return features

    def encode_images(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the observations with (batch, steps, features) in place of images.

        Args:
            obs: images are uint8 (batch, steps, height, width, channels) with any number of steps;
                floating point (batch, steps, features) are features already.

        Raises:
            InputError: an image is missing or has another shape.
        """
        encoded = dict(obs)
        for key, module in self._by_key.items():
            if key not in obs:
                self._observation(obs, key)  # says what is missing
            frames = obs[key]
            if frames.ndim == 3 and frames.shape[2] == module.feature_dim:
                continue
            if frames.dtype != torch.uint8 or tuple(frames.shape[2:]) != module.frame_shape:
                raise InputError(
                    f"images '{key}' are {str(frames.dtype).removeprefix('torch.')} "
                    f"{tuple(frames.shape)}, expected uint8 (batch, steps, "
                    f"{', '.join(map(str, module.frame_shape))})"
                )
            encoded[key] = module(frames)
        return encoded

    def fuse(self, obs: Mapping[str, Tensor]) -> Tensor | None:
        """Return the condition, shape (batch, cond_dim).

        Raises:
            InputError: an observation is missing or has the wrong shape; the message names it.
        """
        frames = []
        for key, size in self._sizes.items():
            value = self._observation(obs, key, (size,) if key in self._by_key else None)
            frames.append(value.reshape(value.shape[0], self.n_obs_steps, size))
        cond: Tensor = self.layers(torch.cat(frames, dim=-1).flatten(1))
        return cond


def _check_cameras(
    config: CamerasConfig, obs_shapes: Mapping[str, tuple[int, ...]], cameras: tuple[str, ...]
) -> None:
    if not cameras:
        raise InputError(
            "encoder.name is 'cameras', but no observation is an image (height, width, 1, 3 or 4 "
            f"channels): {dict(obs_shapes)}; choose encoder.name=state or add a camera to obs_keys"
        )
    for key in config.cameras:
        if key not in cameras:
            raise InputError(
                f"encoder.cameras names '{key}', which is no camera of the data: "
                + nearest_names(key, cameras)
            )
    for key, shape in obs_shapes.items():
        if len(shape) > 2 and key not in cameras:
            raise InputError(
                f"observation '{key}' has shape {shape}, expected an image (height, width, 1, 3 or "
                "4 channels) or at most 2 dimensions per frame"
            )
