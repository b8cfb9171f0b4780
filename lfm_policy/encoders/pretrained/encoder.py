"""Image encoder on a pretrained vision backbone of the transformers library."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lfm_policy.encoders.image import ImageEncoder
from lfm_policy.encoders.image_options import ImageEncoderConfig
from lfm_policy.encoders.pretrained.backbones import build_backbone, pooled_features
from lfm_policy.encoders.pretrained.files import load_weights, read_options
from lfm_policy.encoders.pretrained.options import (
    BACKBONE_OPTIONS,
    check_image_size,
    check_options,
    feature_size,
)
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import option, options

CHANNELS = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESOLVED_FROM = "resolved_from"
"""Key of ``architecture``: the ``model`` that it was read from."""


@options
class PretrainedConfig(ImageEncoderConfig):
    """Options of a pretrained backbone and the linear layer after it."""

    LARGEST: ClassVar[int] = 224

    name: str = option("pretrained", "which image encoder", choices=["pretrained"])
    model: str = option(
        "",
        "folder with config.json and model.safetensors, or a name on the Hugging Face hub, such as "
        "facebook/dinov2-small; kinds: " + ", ".join(BACKBONE_OPTIONS.names()),
        common=True,
    )
    frozen: bool = option(
        True, "leave the backbone's weights as they are, or else fine-tune them", common=True
    )
    output_dim: int = option(
        64, "length of a frame's feature vector: a linear layer, always trained", ge=1, le=16384
    )
    mean: list[Annotated[float, Field(ge=-10, le=10)]] = option(
        list(IMAGENET_MEAN),
        "mean of red, green and blue in pretraining, from 0 to 1",
        min_length=CHANNELS,
        max_length=CHANNELS,
    )
    std: list[Annotated[float, Field(ge=1e-3, le=10)]] = option(
        list(IMAGENET_STD),
        "standard deviation of red, green and blue in pretraining",
        min_length=CHANNELS,
        max_length=CHANNELS,
    )
    architecture: dict[str, Any] = option(
        {}, "filled in from the model's config.json when a training starts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture:
            try:
                check_options(self._backbone_options())
            except OptionError as error:
                raise error.under("architecture") from None

    def _backbone_options(self) -> dict[str, Any]:
        return {key: value for key, value in self.architecture.items() if key != RESOLVED_FROM}

    @property
    def _is_resolved(self) -> bool:
        return bool(self.architecture) and self.architecture.get(RESOLVED_FROM) == self.model

    def resolved(self) -> PretrainedConfig:
        """Return these options with ``architecture`` from the model's ``config.json``.

        Nothing is read if it has been already, and ``model`` is still the same.

        Raises:
            InputError: ``model`` is empty, cannot be found or is of an unknown kind.
        """
        if self._is_resolved:
            return self
        if not self.model:
            raise OptionError(
                "model",
                "is empty, expected a folder with config.json and model.safetensors, or a name on "
                "the Hugging Face hub, such as facebook/dinov2-small",
            )
        options = read_options(self.model)
        return replace(self, architecture={RESOLVED_FROM: self.model, **options})

    def _step(self) -> int:
        return int(self.architecture.get("patch_size", super()._step()))

    def _build(self, frame_shape: tuple[int, int, int], crop: tuple[int, int]) -> ImageEncoder:
        if not self._is_resolved:
            raise OptionError(
                "architecture",
                f"does not describe the model '{self.model}': it is filled in from the model's "
                "config.json when a training starts (EncoderConfig.resolved), and stored in "
                "checkpoints",
            )
        if frame_shape[2] not in (1, CHANNELS):
            raise InputError(
                f"the 'pretrained' encoder sees 1 or {CHANNELS} channels, the images have "
                f"{frame_shape[2]}"
            )
        options = self._backbone_options()
        try:
            check_image_size(options, *crop)
        except InputError as error:
            raise InputError(f"the 'pretrained' encoder '{self.model}': {error}") from None
        return PretrainedEncoder(self, options, frame_shape)


class PretrainedEncoder(ImageEncoder):
    """A pretrained backbone, its pooled features, then a linear layer.

    Frozen, the backbone stays in evaluation mode and no gradient is computed for it.

    Attributes:
        backbone: the network of the transformers library.
        output: the linear layer.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        options: dict[str, Any],
        frame_shape: tuple[int, int, int],
    ) -> None:
        super().__init__(config, frame_shape, config.output_dim)
        self._model = config.model
        self._frozen = config.frozen
        self._options = options
        self.backbone = build_backbone(options)
        self.backbone.requires_grad_(not config.frozen)
        self.output = nn.Linear(feature_size(options), config.output_dim)
        # From -1..1 to 0..1, and from there to the scale of pretraining.
        mean, std = (torch.tensor(v)[:, None, None] for v in (config.mean, config.std))
        self.register_buffer("_scale", 0.5 / std, persistent=False)
        self.register_buffer("_shift", (0.5 - mean) / std, persistent=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Set training mode, except for a frozen backbone."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the weights of a frozen backbone."""
        return list(self.backbone.parameters()) if self._frozen else []

    def load_pretrained(self) -> None:
        """Read the backbone's weights from the model's ``model.safetensors``.

        Raises:
            InputError: the file is nowhere, is damaged, or does not fit; or the model's
                ``config.json`` is no longer the one that the network was built from.
        """
        if read_options(self._model) != self._options:
            raise InputError(
                f"{self._model}: its config.json is not the one that 'architecture' was filled in "
                "from: remove 'architecture' from the configuration"
            )
        load_weights(self._model, self.backbone.state_dict())

    def features(self, images: Tensor) -> Tensor:
        """Map (B, C, h, w) float32 from -1 to 1 to (B, output_dim)."""
        # One channel becomes three here, each on its own scale.
        images = images * self.get_buffer("_scale") + self.get_buffer("_shift")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            pooled = pooled_features(self._options, self.backbone, images)
        result: Tensor = self.output(pooled)
        return result
