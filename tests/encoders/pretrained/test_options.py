"""Options of pretrained backbones: from config.json, with bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lfm_policy.encoders.pretrained.options import (
    BACKBONE_OPTIONS,
    check_image_size,
    check_options,
    feature_size,
    options_from_config,
)
from lfm_policy.errors import InputError
from lfm_policy.options import declared
from lfm_runtime.disk.plain import plain_options


def options(kind: str, **changes: Any) -> dict[str, Any]:
    return {**options_from_config({"model_type": kind}), **changes}


@pytest.mark.parametrize("kind", BACKBONE_OPTIONS.names())
def test_what_a_model_does_not_say_is_the_librarys_default(kind: str) -> None:
    found = options(kind)
    check_options(found)
    assert found["model_type"] == kind and found["num_channels"] == 3
    assert feature_size(found) in (768, 2048)
    assert plain_options(json.loads(json.dumps(found)), "stored") == found


def test_labels_and_whatever_else_has_no_effect_are_left_out() -> None:
    config = {
        "model_type": "vit",
        "hidden_size": 192,
        "num_attention_heads": 3,
        "id2label": {str(i): f"label {i}" for i in range(21_000)},
        "architectures": ["ViTModel"],
        "auto_map": {"AutoModel": "evil.Model"},
        "torch_dtype": "float16",
    }
    found = options_from_config(config)
    assert found == options("vit", hidden_size=192, num_attention_heads=3)
    assert set(found) == {"model_type", *declared(BACKBONE_OPTIONS.get("vit"))}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_of_two_towers_the_one_for_images_is_taken(kind: str) -> None:
    config = {
        "model_type": kind,
        "hidden_size": 5,
        "text_config": {"hidden_size": 7},
        "vision_config": {"hidden_size": 96},
    }
    assert options_from_config(config) == options(f"{kind}_vision_model", hidden_size=96)
    assert options_from_config({"model_type": kind}) == options(f"{kind}_vision_model")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "unknown vision backbone '': known: resnet, convnext"),
        ({"model_type": "bert"}, "unknown vision backbone 'bert'"),
        ({"model_type": "dinov3_vit"}, "unknown vision backbone 'dinov3_vit': did you mean"),
        (
            {"model_type": "vit", "image_size": [224, 224]},
            r"image_size: found \[224, 224\], expected int",
        ),
        ({"model_type": "vit", "num_channels": 1}, "num_channels is 1, expected 3"),
        (
            {"model_type": "dinov2", "use_swiglu_ffn": True},
            "use_swiglu_ffn: found True, expected False",
        ),
    ],
)
def test_a_model_it_cannot_be_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        options_from_config(config)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("vit", {"hidden_size": 10**9}, "hidden_size is 1000000000, expected an integer from 1 to"),
        ("vit", {"hidden_size": 10**5000}, "hidden_size is a number of thousands of digits"),
        ("vit", {"hidden_size": "768"}, "hidden_size: found '768', expected int"),
        ("vit", {"hidden_size": True}, "hidden_size: found True"),
        ("vit", {"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ("vit", {"num_attention_heads": 7}, "hidden_size is 768, expected a multiple of the 7"),
        ("vit", {"num_attention_heads": 0}, "num_attention_heads is 0"),
        ("vit", {"intermediate_size": -1}, "intermediate_size is -1"),
        ("vit", {"image_size": 4096, "patch_size": 2}, "expected 1 to 65536 patches"),
        ("vit", {"image_size": 8, "patch_size": 16}, "expected 1 to 65536 patches"),
        ("vit", {"patch_size": 0}, "patch_size is 0"),
        ("vit", {"hidden_act": "__import__"}, "hidden_act is '__import__', expected one of gelu,"),
        ("vit", {"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
        ("vit", {"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0"),
        ("vit", {"qkv_bias": 1}, "qkv_bias: found 1, expected bool"),
        ("vit", {"auto_map": {}}, "unknown key 'auto_map'"),
        ("vit", {"head_dim": 10**9}, "unknown key 'head_dim'"),
        ("dinov2", {"mlp_ratio": 1e9}, "mlp_ratio is 1000000000.0"),
        ("dinov2_with_registers", {"num_register_tokens": 10**9}, "num_register_tokens is"),
        ("resnet", {"depths": [3, 4, 6]}, "depths is .* one number for each of hidden_sizes"),
        ("resnet", {"depths": [64, 64, 64, 64]}, "at most 128 together"),
        ("resnet", {"depths": []}, "depths has 0 elements, expected 1 to 8"),
        ("resnet", {"hidden_sizes": [1] * 10_000}, "hidden_sizes has 10000 elements"),
        (
            "resnet",
            {"layer_type": "other"},
            "layer_type is 'other', expected one of bottleneck, basic",
        ),
        ("convnext", {"hidden_sizes": 96}, "hidden_sizes: found 96, expected list"),
        ("convnext", {"hidden_sizes": [96, 192, 384, None]}, r"hidden_sizes\[3\]: found None"),
        ("unknown", {}, "model_type: unknown vision backbone"),
    ],
)
def test_options_out_of_bounds_are_refused(
    kind: str, changes: dict[str, Any], message: str
) -> None:
    stored = options("vit" if kind == "unknown" else kind, **changes)
    with pytest.raises(InputError, match=message) as caught:
        check_options({**stored, "model_type": kind})
    assert len(str(caught.value)) < 500


def test_all_options_have_to_be_there() -> None:
    stored = options("vit")
    del stored["patch_size"]
    with pytest.raises(InputError, match="patch_size is missing, expected"):
        check_options(stored)


@pytest.mark.parametrize(
    ("kind", "changes", "size"),
    [
        ("vit", {}, (224, 224)),
        ("vit", {}, (16, 96)),
        ("vit", {"image_size": 30, "patch_size": 16}, (30, 30)),
        ("dinov2", {}, (84, 98)),
        ("clip_vision_model", {}, (96, 96)),
        ("resnet", {}, (32, 33)),
        ("convnext", {}, (32, 100)),
        ("convnext", {"depths": [1], "hidden_sizes": [8]}, (4, 5)),
    ],
)
def test_image_sizes_it_can_see(kind: str, changes: dict[str, Any], size: tuple[int, int]) -> None:
    check_image_size(options(kind, **changes), *size)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("vit", (96, 84), r"sees 96 x 84 .* takes 224 x 224, .*16 x 16: .* to \[96, 80\]"),
        ("dinov2", (96, 96), r"multiples of its patches of 14 x 14.*for example to \[98, 98\]"),
        ("vit", (4, 224), r"for example to \[16, 224\]"),
        ("resnet", (31, 96), "needs at least 32 x 32: choose a larger crop, or resize"),
        ("convnext", (96, 31), "needs at least 32 x 32"),
    ],
)
def test_image_sizes_it_cannot_see(kind: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_image_size(options(kind), *size)
