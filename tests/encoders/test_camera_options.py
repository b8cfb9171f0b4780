"""Options of image encoders by camera: from files and command lines, merged, checked, stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lfm_policy.config.load import (
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
)
from lfm_policy.encoders.image_options import CompactConfig, ResNet18Config
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.errors import InputError

COMPACT = {"name": "compact", "width": 8, "keypoints": 3}
OVERRIDES = ["encoder.name=cameras", "encoder.image.name=resnet18", "encoder.image.width=16"]


def test_another_kind_of_encoder_takes_over_only_what_all_have() -> None:
    config = CamerasConfig(
        image={**COMPACT, "crop": [40, 40], "brightness": 0.1},
        cameras={"wrist": {"name": "resnet18"}, "side": {"name": "compact", "width": 16}},
    )
    assert config.image_config("wrist") == ResNet18Config(crop=[40, 40], brightness=0.1)
    side = config.image_config("side")
    assert isinstance(side, CompactConfig) and (side.width, side.keypoints) == (16, 3)
    assert config.image_config("any other") == config.image_config("")


def test_without_pretrained_backbones_there_is_nothing_to_resolve() -> None:
    config = CamerasConfig(image=COMPACT, cameras={"wrist": {"name": "resnet18"}}, hidden=[8])
    assert config.resolved() == config


LARGE, SMALL = (240, 320, 3), (84, 84, 3)


def test_sizes_of_large_images_become_options() -> None:
    config = CamerasConfig(image=COMPACT)
    assert config.with_sizes({"top": SMALL, "state": (3,)}) is config
    both = config.with_sizes({"top": LARGE, "wrist": LARGE, "state": (3,)})
    assert both.image == {**COMPACT, "resize": [96, 128]} and both.cameras == {}
    one = config.with_sizes({"top": LARGE, "wrist": SMALL})
    assert one.image == COMPACT and one.cameras == {"top": {"resize": [96, 128]}}
    assert one.with_sizes({"top": LARGE, "wrist": SMALL}) is one
    for resized in (both, one, config):
        assert resized.frame_size("top", LARGE) == (96, 128)
        assert resized.frame_size("another", SMALL) == ((96, 128) if resized is both else (84, 84))


def test_sizes_that_were_chosen_stay_and_those_of_before_are_as_recorded() -> None:
    chosen = CamerasConfig(image={**COMPACT, "resize": []}, cameras={"top": {"resize": [48, 64]}})
    assert chosen.with_sizes({"top": LARGE, "wrist": LARGE}) is chosen
    own = CamerasConfig(image=COMPACT, cameras={"top": {"name": "resnet18"}})
    sized = own.with_sizes({"top": LARGE, "wrist": (480, 480, 3)})
    assert sized.cameras == {
        "top": {"name": "resnet18", "resize": [96, 128]},
        "wrist": {"resize": [128, 128]},
    }
    asked = CamerasConfig(image=COMPACT, cameras={"top": {"resize": "auto"}})
    sized = asked.with_sizes({"top": LARGE, "wrist": LARGE})
    assert sized.cameras == {"top": {"resize": [96, 128]}, "wrist": {"resize": [96, 128]}}
    assert sized.with_sizes({"top": LARGE, "wrist": LARGE}, resized=False) is sized
    before = CamerasConfig(image=COMPACT, shared=True).with_sizes(
        {"top": LARGE, "wrist": LARGE}, resized=False
    )
    assert before.image == {**COMPACT, "resize": []} and before.frame_size("top", LARGE) == (
        240,
        320,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image": {"name": "compct"}},
            "CamerasConfig.image.name: unknown image encoder 'compct': did",
        ),
        ({"image": {"name": ""}}, "image.name: unknown image encoder ''"),
        (
            {"image": {"name": "compact", "widht": 8}},
            "unknown key 'CamerasConfig.image.widht' of .*: did you mean 'width'",
        ),
        ({"image": {"name": "compact", "width": 7}}, "CamerasConfig.image.width is 7"),
        (
            {"image": {"name": "compact", "crop": "small"}},
            r"CamerasConfig.image.crop: found 'small', expected list\[int | float\]",
        ),
        ({"image": {"name": "compact", "width": None}}, "image.width: found None, expected int"),
        ({"cameras": {"wrist": [3]}}, r"CamerasConfig.cameras.wrist is \[3\], expected options"),
        (
            {"cameras": {"wrist": {"name": "resnet"}}},
            "Config.cameras.wrist.name: unknown image encoder 'resnet': did you mean 'resnet18'",
        ),
        (
            {"cameras": {"wrist": {"n_block": 2}}},
            "unknown key 'CamerasConfig.cameras.wrist.n_block' of .*: did you mean 'n_blocks'",
        ),
        ({"cameras": {"wrist": {"shift": -1}}}, "cameras.wrist.shift is -1"),
        (
            {"shared": True, "cameras": {"wrist": {"width": 8}}},
            "shared is true and cameras changes wrist: one image encoder",
        ),
        ({"output_dim": 4}, "output_dim is 4, expected 0 when hidden is empty"),
    ],
)
def test_bad_options_print_their_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CamerasConfig(**options)


def test_options_come_from_the_command_line_and_survive_a_round_trip() -> None:
    config = load_config(
        "pusht/fm",
        [
            *OVERRIDES,
            "encoder.image.crop=[84, 84]",
            "encoder.cameras={wrist: {name: compact, crop: [20, 20]}, top: {keypoints: 8}}",
            "encoder.hidden=[32]",
        ],
    )
    encoder = config.encoder
    assert isinstance(encoder, CamerasConfig)
    assert encoder.image == {"name": "resnet18", "width": 16, "crop": [84, 84]}
    assert encoder.image_config("top") == ResNet18Config(width=16, keypoints=8, crop=[84, 84])
    assert encoder.image_config("wrist") == CompactConfig(crop=[20, 20])
    stored = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(stored, "stored") == config
    assert config_from_dict(yaml.safe_load(config_to_yaml(config)), "stored") == config


def test_a_camera_can_be_changed_by_its_own_override() -> None:
    config = load_config("pusht/fm", [*OVERRIDES, "encoder.cameras={wrist: {name: resnet18}}"])
    assert isinstance(config.encoder, CamerasConfig)
    assert config.encoder.cameras == {"wrist": {"name": "resnet18"}}
    config = load_config("pusht/fm", [*OVERRIDES, "encoder.cameras.wrist.keypoints=8"])
    assert isinstance(config.encoder, CamerasConfig)
    assert config.encoder.image_config("wrist") == ResNet18Config(width=16, keypoints=8)


def test_a_file_may_hold_them_and_the_default_is_compact(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("encoder: {name: cameras, image: {crop: [84, 84]}}\n", encoding="utf-8")
    encoder = load_config(str(path)).encoder
    assert isinstance(encoder, CamerasConfig)
    assert encoder.image_config("") == CompactConfig(crop=[84, 84])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.image.name=resnet", "unknown image encoder 'resnet'"),
        ("encoder.image.widht=8", "unknown key 'encoder.image.widht' of 'encoder.image'"),
        ("encoder.cameras={wrist: {name: nothing}}", "encoder.cameras.wrist.name"),
        ("encoder.cameras=[wrist]", "expected keys and values in braces"),
        ("encoder.image=compact", "expected keys and values in braces"),
    ],
)
def test_mistakes_on_the_command_line_are_named(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config("pusht/fm", ["encoder.name=cameras", override])
