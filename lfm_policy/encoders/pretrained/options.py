"""Pretrained vision backbones that are known, and their options with bounds.

The options are those of ``config.json`` in the format of the transformers library, less what has
no effect on features. They are stored in checkpoints, and a checkpoint may come from anybody:
nothing in them may ask for an absurd amount of memory or time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lfm_policy.errors import InputError
from lfm_runtime.registry import Registry, nearest_names

MODEL_TYPE = "model_type"
MAX_WIDTH = 8192
MAX_LAYERS = 64
MAX_STAGES = 8
MAX_POSITIONS = 1 << 16
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu")

# Text and image towers together: the image tower's options stand in a section of their own.
TOWERS = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}


@dataclass(frozen=True)
class BackboneOption:
    """One option of a backbone.

    Attributes:
        default: what the transformers library takes when ``config.json`` does not say.
        expected: the allowed values in words.
        accepts: whether a value is allowed.
    """

    default: Any
    expected: str
    accepts: Callable[[Any], bool]


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _whole(default: int, low: int, high: int) -> BackboneOption:
    return BackboneOption(
        default, f"an integer from {low} to {high}", lambda value: _is_whole(value, low, high)
    )


def _wholes(default: list[int], low: int, high: int) -> BackboneOption:
    def accepts(value: Any) -> bool:
        return (
            isinstance(value, list)
            and 1 <= len(value) <= MAX_STAGES
            and all(_is_whole(part, low, high) for part in value)
        )

    return BackboneOption(default, f"1 to {MAX_STAGES} integers from {low} to {high}", accepts)


def _number(default: float, low: float, high: float) -> BackboneOption:
    def accepts(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and low <= value <= high

    return BackboneOption(default, f"a number from {low:g} to {high:g}", accepts)


def _flag(default: bool) -> BackboneOption:
    return BackboneOption(default, "true or false", lambda value: isinstance(value, bool))


def _one_of(default: Any, *others: Any) -> BackboneOption:
    values = (default, *others)
    expected = " or ".join(str(value) for value in values)
    return BackboneOption(
        default,
        expected,
        lambda value: any(type(value) is type(v) and value == v for v in values),
    )


def _activation(default: str) -> BackboneOption:
    return _one_of(default, *(name for name in ACTIVATIONS if name != default))


def _patches(*, patch_size: int, hidden_act: str, layer_norm_eps: float) -> dict[str, Any]:
    return {
        "num_channels": _one_of(3),
        "image_size": _whole(224, 1, 4096),
        "patch_size": _whole(patch_size, 2, 256),
        "hidden_size": _whole(768, 1, MAX_WIDTH),
        "num_hidden_layers": _whole(12, 1, MAX_LAYERS),
        "num_attention_heads": _whole(12, 1, 256),
        "hidden_act": _activation(hidden_act),
        "layer_norm_eps": _number(layer_norm_eps, 0, 1),
    }


_INTERMEDIATE = {"intermediate_size": _whole(3072, 1, 4 * MAX_WIDTH)}
_DROPOUT = {
    "qkv_bias": _flag(True),
    "hidden_dropout_prob": _number(0.0, 0, 0.99),
    "attention_probs_dropout_prob": _number(0.0, 0, 0.99),
}
_DINO = {
    **_DROPOUT,
    "mlp_ratio": _number(4, 0.01, 16),
    "drop_path_rate": _number(0.0, 0, 0.99),
    # Of the giant models only, whose weights have other shapes in transformers 4 and 5.
    "use_swiglu_ffn": _one_of(False),
}
_TOWER = {**_INTERMEDIATE, "attention_dropout": _number(0.0, 0, 0.99)}
_CONVNEXT = {
    "num_channels": _one_of(3),
    "patch_size": _whole(4, 1, 64),
    "hidden_sizes": _wholes([96, 192, 384, 768], 1, MAX_WIDTH),
    "depths": _wholes([3, 3, 9, 3], 1, MAX_LAYERS),
    "hidden_act": _activation("gelu"),
    "layer_norm_eps": _number(1e-12, 0, 1),
    "drop_path_rate": _number(0.0, 0, 0.99),
}
_RESNET = {
    "num_channels": _one_of(3),
    "embedding_size": _whole(64, 1, MAX_WIDTH),
    "hidden_sizes": _wholes([256, 512, 1024, 2048], 4, MAX_WIDTH),
    "depths": _wholes([3, 4, 6, 3], 1, MAX_LAYERS),
    "layer_type": _one_of("bottleneck", "basic"),
    "hidden_act": _activation("relu"),
    "downsample_in_first_stage": _flag(False),
    "downsample_in_bottleneck": _flag(False),
}

BACKBONE_OPTIONS: Registry[dict[str, BackboneOption]] = Registry(
    "vision backbone",
    {
        "resnet": _RESNET,
        "convnext": {**_CONVNEXT, "layer_scale_init_value": _number(1e-6, 0, 1)},
        "convnextv2": _CONVNEXT,
        "vit": {
            **_patches(patch_size=16, hidden_act="gelu", layer_norm_eps=1e-12),
            **_INTERMEDIATE,
            **_DROPOUT,
        },
        "dinov2": {**_patches(patch_size=14, hidden_act="gelu", layer_norm_eps=1e-6), **_DINO},
        "dinov2_with_registers": {
            **_patches(patch_size=16, hidden_act="gelu", layer_norm_eps=1e-6),
            **_DINO,
            "num_register_tokens": _whole(4, 0, 256),
        },
        "siglip_vision_model": {
            **_patches(patch_size=16, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6),
            **_TOWER,
        },
        "clip_vision_model": {
            **_patches(patch_size=32, hidden_act="quick_gelu", layer_norm_eps=1e-5),
            **_TOWER,
        },
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
    options: dict[str, Any] = {MODEL_TYPE: kind}
    for name, option in known.items():
        options[name] = config.get(name, option.default)
    check_options(options)
    return options


def check_options(options: Mapping[str, Any]) -> None:
    """Check all options of a backbone, `MODEL_TYPE` among them.

    Raises:
        InputError: the kind or an option is unknown, missing or out of bounds; the message
            begins with the option.
    """
    try:
        known = BACKBONE_OPTIONS.get(str(options.get(MODEL_TYPE)))
    except InputError as error:
        raise InputError(f"{MODEL_TYPE}: {error}") from None
    for name in options:
        if name != MODEL_TYPE and name not in known:
            raise InputError(f"{name} is unknown: {nearest_names(str(name), list(known))}")
    for name, option in known.items():
        if name not in options:
            raise InputError(f"{name} is missing, expected {option.expected}")
        if not option.accepts(options[name]):
            raise InputError(f"{name} is {_shown(options[name])}, expected {option.expected}")
    if "depths" in known:
        _check_stages(options)
    else:
        _check_patches(options)


def _shown(value: Any) -> str:
    try:
        return str(value)[:100]
    except ValueError:
        return "a number of thousands of digits"


def _check_stages(options: Mapping[str, Any]) -> None:
    sizes, depths = options["hidden_sizes"], options["depths"]
    if len(sizes) != len(depths) or sum(depths) > 2 * MAX_LAYERS:
        raise InputError(
            f"depths is {depths}, expected one number for each of hidden_sizes ({sizes}), at most "
            f"{2 * MAX_LAYERS} together"
        )


def _check_patches(options: Mapping[str, Any]) -> None:
    width, heads = options["hidden_size"], options["num_attention_heads"]
    if width % heads:
        raise InputError(f"hidden_size is {width}, expected a multiple of the {heads} heads")
    side = options["image_size"] // options["patch_size"]
    if not 1 <= side * side <= MAX_POSITIONS:
        raise InputError(
            f"patch_size is {options['patch_size']} and image_size {options['image_size']}, "
            f"expected 1 to {MAX_POSITIONS} patches"
        )


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
