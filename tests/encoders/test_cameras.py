"""Several cameras and low-dimensional observations together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lfm_policy.config import config_from_dict, config_to_dict, load_config
from lfm_policy.encoders.compact import CompactEncoder
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.encoders.resnet18 import ResNet18Encoder
from lfm_policy.errors import InputError

SHAPES = {"front": (32, 32, 3), "pose": (4,), "wrist": (32, 32, 3)}
TINY = {"name": "compact", "width": 4, "keypoints": 2}


def observations(n: int = 3, steps: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (n, steps, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return {"front": image, "wrist": image.flip(0), "pose": torch.ones(n, steps, 4)}


def test_the_condition_is_ordered_by_frame_and_name() -> None:
    encoder = CamerasConfig(image=TINY).create(SHAPES, 2).eval()
    obs = observations()
    features = encoder.encode_images(obs)
    cond = encoder(obs)
    assert cond is not None and cond.shape == (3, encoder.cond_dim) == (3, 2 * (4 + 4 + 4))
    frame = torch.cat([features[key][:, 1] for key in ("front", "pose", "wrist")], dim=-1)
    assert torch.equal(cond[:, 12:], frame)
    assert torch.equal(encoder(features), cond)  # features pass


def test_features_may_stand_as_differences() -> None:
    encoder = CamerasConfig(image=TINY, history="differences").create(SHAPES, 2).eval()
    obs = observations()
    features = encoder.encode_images(obs)
    cond = encoder(obs)
    assert cond is not None and cond.shape == (3, encoder.cond_dim)
    older, newest = (
        torch.cat([features[key][:, step] for key in ("front", "pose", "wrist")], dim=-1)
        for step in (0, 1)
    )
    assert torch.equal(cond[:, :12], 8 * (newest - older)) and torch.equal(cond[:, 12:], newest)
    assert torch.equal(encoder(features), cond)
    still = {key: value[:, :1].expand(-1, 2, *value.shape[2:]) for key, value in obs.items()}
    equal = encoder(still)
    assert equal is not None and equal[:, :12].abs().max() < 1e-5


def test_own_and_shared_weights() -> None:
    own = CamerasConfig(image=TINY).create(SHAPES, 2).eval()
    shared = CamerasConfig(image=TINY, shared=True).create(SHAPES, 2).eval()
    count = sum(p.numel() for p in shared.parameters())
    assert sum(p.numel() for p in own.parameters()) == 2 * count
    features = shared.encode_images(observations())
    torch.testing.assert_close(features["front"], features["wrist"].flip(0))


def test_each_camera_may_have_its_own_encoder() -> None:
    config = CamerasConfig(image=TINY, cameras={"wrist": {"name": "resnet18", "width": 16}})
    encoder = config.create({**SHAPES, "wrist": (32, 40, 3)}, 1)
    assert isinstance(encoder.image_encoder("front"), CompactEncoder)
    assert isinstance(encoder.image_encoder("wrist"), ResNet18Encoder)


def test_a_hidden_layer_fuses() -> None:
    encoder = CamerasConfig(image=TINY, hidden=[8], output_dim=5).create(SHAPES, 2)
    assert encoder(observations()).shape == (3, 5)


@pytest.mark.parametrize("steps", [1, 3])
def test_images_of_any_number_of_steps_are_encoded(steps: int) -> None:
    encoder = CamerasConfig(image=TINY).create(SHAPES, 2)
    assert encoder.encode_images(observations(steps=steps))["front"].shape == (3, steps, 4)


def test_options_from_the_command_line_survive_a_checkpoint() -> None:
    config = load_config(
        "pusht/image_lfm",
        ["encoder.image.keypoints=8", "encoder.cameras={image: {name: resnet18}}"],
    )
    again = config_from_dict(config_to_dict(config), "again")
    assert again == config
    assert isinstance(config.encoder, CamerasConfig)
    assert config.encoder.image_config("image").name == "resnet18"
    assert config.encoder.image_config("image").crop == [84, 84]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": {"name": "compat"}}, "unknown image encoder 'compat': did you mean 'compact'"),
        ({"image": {**TINY, "widht": 3}}, "image.widht' of .*: did you mean 'width'"),
        ({"image": {**TINY, "width": "wide"}}, "image.width: found .wide., expected int"),
        ({"cameras": {"wrist": 3}}, "cameras.wrist is 3, expected options"),
        ({"shared": True, "cameras": {"wrist": {}}}, "shared is true and cameras changes wrist"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CamerasConfig(**options)


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ({}, {"pose": (4,)}, "no observation is an image"),
        ({"cameras": {"wirst": {}}}, SHAPES, "names 'wirst', .*did you mean 'wrist'"),
        ({}, {**SHAPES, "voxels": (8, 8, 8)}, "'voxels' has shape"),
        ({"shared": True}, {"a": (32, 32, 3), "b": (32, 30, 3)}, "one encoder sees one shape"),
    ],
)
def test_data_that_do_not_fit(
    options: dict[str, Any], shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CamerasConfig(image=TINY, **options).create(shapes, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"front": torch.zeros(3, 2, 32, 32, 3)}, "'front' are float32 .*, expected uint8"),
        ({"front": torch.zeros(3, 2, 3, 32, 32, dtype=torch.uint8)}, r"expected uint8 \(batch"),
        ({"pose": torch.zeros(3, 2, 5)}, r"'pose' has shape \(3, 2, 5\)"),
    ],
)
def test_wrong_observations(changes: dict[str, torch.Tensor], message: str) -> None:
    encoder = CamerasConfig(image=TINY).create(SHAPES, 2)
    with pytest.raises(InputError, match=message):
        encoder({**observations(), **changes})
    with pytest.raises(InputError, match="'front' is missing"):
        encoder({"pose": torch.zeros(3, 2, 4)})
