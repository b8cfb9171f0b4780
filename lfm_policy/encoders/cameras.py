"""Encoder of camera images and low-dimensional observations together."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from lfm_policy.encoders.image import ImageEncoder
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.encoders.state import HistoryEncoder
from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import is_image
from lfm_runtime.registry import nearest_names

SHARED = "shared"


class CamerasEncoder(HistoryEncoder):
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
        feature_dims = {key: module.feature_dim for key, module in image_encoders.items()}
        super().__init__(config, obs_shapes, n_obs_steps, feature_dims)
        self.image_encoders = nn.ModuleDict(modules)
        self._by_key = image_encoders
        self.layers = self.fusion_layers(config)

    @property
    def same_work(self) -> bool:  # type: ignore[override]
        """Whether all image encoders say so."""
        return all(encoder.same_work for encoder in self._by_key.values())

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

    def load_pretrained(self, keys: Collection[str] | None = None) -> None:
        """Load the weights of pretrained backbones; see `ObsEncoder.load_pretrained`.

        Raises:
            InputError: they cannot be found, or do not fit.
        """
        others = () if keys is None else self._by_key.keys() - set(keys)
        kept = {id(self._by_key[key]) for key in others}
        for module in self.image_encoders.values():
            assert isinstance(module, ImageEncoder)
            if id(module) not in kept:
                module.load_pretrained()

    def module_name(self, key: str) -> str:
        """Return under which name the weights of a camera's encoder stand."""
        names = {id(part): name for name, part in self.image_encoders.items()}
        return f"image_encoders.{names[id(self._by_key[key])]}"

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
                as recorded or resized already; floating point (batch, steps, features) are
                features already.

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
            known = (module.frame_shape, module.resized_shape)
            if frames.dtype != torch.uint8 or tuple(frames.shape[2:]) not in known:
                raise InputError(
                    f"images '{key}' are {str(frames.dtype).removeprefix('torch.')} "
                    f"{tuple(frames.shape)}, expected uint8 (batch, steps, "
                    f"{', '.join(map(str, module.frame_shape))})"
                )
            encoded[key] = module(frames)
        return encoded


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
