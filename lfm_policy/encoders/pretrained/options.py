"""Pretrained vision backbones that are known, and their options with bounds.

The options are those of ``config.json`` in the format of the transformers library, less what has
no effect on features. They are stored in checkpoints, and a checkpoint may come from anybody:
nothing in them may ask for an absurd amount of memory or time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import checked, declared, option, options
from lfm_runtime.registry import Registry

MODEL_TYPE = "model_type"
MAX_WIDTH = 8192
MAX_LAYERS = 64
MAX_STAGES = 8
MAX_POSITIONS = 1 << 16
ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"]

# Text and image towers together: the image tower's options stand in a section of their own.
TOWERS = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}

Colours = Annotated[int, Field(ge=3, le=3)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
PatchSize = Annotated[int, Field(ge=2, le=256)]
Rate = Annotated[float, Field(ge=0, le=0.99)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _activation(default: str) -> Any:
    return option(default, "activation", choices=ACTIVATIONS)


def _stages(*default: int) -> Any:
    return option(list(default), "by stage", min_length=1, max_length=MAX_STAGES)


@options
class BackboneOptions:
    """Options of a backbone, with the defaults of the transformers library."""

    strict = True

    num_channels: Colours = 3


@options
class StagesOptions(BackboneOptions):
    """Options of a backbone in stages, each of half the resolution of the one before."""

    hidden_sizes: list[Width] = _stages(96, 192, 384, 768)
    depths: list[Layers] = _stages(3, 3, 9, 3)

    def __post_init__(self) -> None:
        sizes, depths = self.hidden_sizes, self.depths
        if len(sizes) != len(depths) or sum(depths) > 2 * MAX_LAYERS:
            raise OptionError(
                "depths",
                f"is {depths}, expected one number for each of hidden_sizes ({sizes}), at most "
                f"{2 * MAX_LAYERS} together",
            )


@options
class ResNetOptions(StagesOptions):
    """Options of ``resnet``."""

    hidden_sizes: list[Annotated[int, Field(ge=4, le=MAX_WIDTH)]] = _stages(256, 512, 1024, 2048)
    depths: list[Layers] = _stages(3, 4, 6, 3)
    embedding_size: Width = 64
    layer_type: str = option("bottleneck", "kind of layer", choices=["bottleneck", "basic"])
    hidden_act: str = _activation("relu")
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False


@options
class ConvNextV2Options(StagesOptions):
    """Options of ``convnextv2``."""

    patch_size: Annotated[int, Field(ge=1, le=64)] = 4
    hidden_act: str = _activation("gelu")
    layer_norm_eps: Fraction = 1e-12
    drop_path_rate: Rate = 0.0


@options
class ConvNextOptions(ConvNextV2Options):
    """Options of ``convnext``."""

    layer_scale_init_value: Fraction = 1e-6


@options
class PatchesOptions(BackboneOptions):
    """Options of a transformer over patches of the image."""

    image_size: Annotated[int, Field(ge=1, le=4096)] = 224
    patch_size: PatchSize = 16
    hidden_size: Width = 768
    num_hidden_layers: Layers = 12
    num_attention_heads: Annotated[int, Field(ge=1, le=256)] = 12
    hidden_act: str = _activation("gelu")
    layer_norm_eps: Fraction = 1e-12

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise OptionError(
                "hidden_size",
                f"is {self.hidden_size}, expected a multiple of the {self.num_attention_heads} "
                "heads",
            )
        side = self.image_size // self.patch_size
        if not 1 <= side * side <= MAX_POSITIONS:
            raise OptionError(
                "patch_size",
                f"is {self.patch_size} and image_size {self.image_size}, expected 1 to "
                f"{MAX_POSITIONS} patches",
            )


@options
class ViTOptions(PatchesOptions):
    """Options of ``vit``."""

    intermediate_size: Annotated[int, Field(ge=1, le=4 * MAX_WIDTH)] = 3072
    qkv_bias: bool = True
    hidden_dropout_prob: Rate = 0.0
    attention_probs_dropout_prob: Rate = 0.0


@options
class DinoV2Options(PatchesOptions):
    """Options of ``dinov2``."""

    patch_size: PatchSize = 14
    layer_norm_eps: Fraction = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: Rate = 0.0
    attention_probs_dropout_prob: Rate = 0.0
    mlp_ratio: Annotated[float, Field(ge=0.01, le=16)] = 4
    drop_path_rate: Rate = 0.0
    # Of the giant models only, whose weights have other shapes in transformers 4 and 5.
    use_swiglu_ffn: Literal[False] = False


@options
class DinoV2RegistersOptions(DinoV2Options):
    """Options of ``dinov2_with_registers``."""

    patch_size: PatchSize = 16
    num_register_tokens: Annotated[int, Field(ge=0, le=256)] = 4


@options
class SiglipOptions(PatchesOptions):
    """Options of ``siglip_vision_model``."""

    hidden_act: str = _activation("gelu_pytorch_tanh")
    layer_norm_eps: Fraction = 1e-6
    intermediate_size: Annotated[int, Field(ge=1, le=4 * MAX_WIDTH)] = 3072
    attention_dropout: Rate = 0.0


@options
class ClipOptions(SiglipOptions):
    """Options of ``clip_vision_model``."""

    patch_size: PatchSize = 32
    hidden_act: str = _activation("quick_gelu")
    layer_norm_eps: Fraction = 1e-5


BACKBONE_OPTIONS: Registry[type[BackboneOptions]] = Registry(
    "vision backbone",
    {
        "resnet": ResNetOptions,
        "convnext": ConvNextOptions,
        "convnextv2": ConvNextV2Options,
        "vit": ViTOptions,
        "dinov2": DinoV2Options,
        "dinov2_with_registers": DinoV2RegistersOptions,
        "siglip_vision_model": SiglipOptions,
        "clip_vision_model": ClipOptions,
    },
)


def options_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a backbone from the content of a model's ``config.json``.

    Raises:
        InputError: the model is of an unknown kind, or an option is out of bounds.
    """
    kind = config.get(MODEL_TYPE)
    if kind in TOWERS:
        tower = config.get("vision_config")
        config, kind = tower if isinstance(tower, Mapping) else {}, TOWERS[str(kind)]
    known = BACKBONE_OPTIONS.get(str(kind or ""))
    given = {name: config[name] for name in declared(known) if name in config}
    return {MODEL_TYPE: kind, **dataclasses.asdict(checked(known, given)), **given}


def check_options(given: Mapping[str, Any]) -> None:
    """Check all options of a backbone, `MODEL_TYPE` among them.

    Raises:
        OptionError: the kind or an option is unknown, missing or out of bounds.
    """
    try:
        known = BACKBONE_OPTIONS.get(str(given.get(MODEL_TYPE)))
    except InputError as error:
        raise OptionError(MODEL_TYPE, f": {error}") from None
    for name in declared(known):
        if name not in given:
            raise OptionError(name, "is missing, expected all options of the backbone")
    checked(known, {name: value for name, value in given.items() if name != MODEL_TYPE})


def feature_size(options: Mapping[str, Any]) -> int:
    """Return the length of the pooled features of a backbone with checked options."""
    return int(options["hidden_sizes"][-1] if "hidden_sizes" in options else options["hidden_size"])


def check_image_size(options: Mapping[str, Any], height: int, width: int) -> None:
    """Check that a backbone with checked options can see images of a size.

    Raises:
        InputError: it cannot; the message says which sizes it can.
    """
    kind = options[MODEL_TYPE]
    seen = f"it sees {height} x {width} pixels"
    if "hidden_sizes" in options:
        smallest = options.get("patch_size", 4) << (len(options["depths"]) - 1)
        if min(height, width) < smallest:
            raise InputError(
                f"{seen}, but this {kind} needs at least {smallest} x {smallest}: choose a larger "
                "crop, or resize"
            )
        return
    own, patch = options["image_size"], options["patch_size"]
    if (height, width) == (own, own) or (height % patch == 0 and width % patch == 0):
        return
    near = [max(patch, round(side / patch) * patch) for side in (height, width)]
    raise InputError(
        f"{seen}, but this {kind} takes {own} x {own}, or with interpolated position embeddings "
        f"multiples of its patches of {patch} x {patch}: set resize or crop, for example to {near}"
    )
