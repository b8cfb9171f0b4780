"""What all image encoders share: resizing, cropping, training and evaluation."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.data.images.resize import resized_frames
from lfm_policy.encoders import IMAGE_ENCODERS
from lfm_policy.encoders.augment import centre_view, random_view
from lfm_policy.encoders.image import ImageEncoder
from lfm_policy.encoders.image_options import MAX_IMAGE_SIDE, ImageEncoderConfig
from lfm_policy.errors import InputError


class Pixels(ImageEncoder):
    """An encoder that returns what it sees."""

    def __init__(self, config: ImageEncoderConfig, frame_shape: tuple[int, int, int]) -> None:
        height, width = config.crop_of(config.resized(frame_shape))
        super().__init__(config, frame_shape, height * width * frame_shape[2])
        self.layout: list[bool] = []
        self.unused = nn.Linear(1, 1)

    def features(self, images: Tensor) -> Tensor:
        self.layout.append(images.is_contiguous(memory_format=torch.channels_last))
        return images.permute(0, 2, 3, 1).flatten(1)


def pixels(frame_shape: tuple[int, int, int], **options: Any) -> Pixels:
    return Pixels(ImageEncoderConfig(**options), frame_shape).eval()


def frames(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", IMAGE_ENCODERS.names())
def test_the_config_carries_the_name_it_is_found_by(name: str) -> None:
    config = IMAGE_ENCODERS.get(name)()
    assert config.name == name
    assert fields(config)[0].name == "name"
    assert all(option.metadata["description"] for option in fields(config))
    with pytest.raises(InputError, match="name is 'other'"):
        replace(config, name="other")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_encoder_sees_numbers_from_minus_1_to_1_with_channels_last(channels: int) -> None:
    encoder = pixels((4, 5, channels))
    images = frames(2, 3, 4, 5, channels)
    images[0, 0, 0, 0, 0], images[0, 0, 0, 1, 0] = 0, 255
    features = encoder(images)
    assert features.shape == (2, 3, encoder.feature_dim) and features.dtype == torch.float32
    torch.testing.assert_close(features.view(images.shape), images.float() / 127.5 - 1)
    assert features[0, 0, 0] == -1 and features[0, 0, channels] == 1
    assert encoder.layout == [True]


def test_evaluation_sees_the_centre_and_training_random_parts() -> None:
    encoder = pixels((8, 9, 3), crop=[4, 4])
    images = frames(1, 1, 8, 9, 3)
    centre = images[:, :, 2:6, 2:6].float().flatten(2) / 127.5 - 1
    torch.testing.assert_close(encoder(images), centre)
    torch.testing.assert_close(encoder(images, centre_view(encoder._config, 1, (8, 9))), centre)
    encoder.train()
    seen = torch.cat([encoder(images) for _ in range(20)])
    assert len(seen.unique(dim=0)) > 10


def test_without_anything_random_training_and_evaluation_see_the_same() -> None:
    encoder = pixels((6, 6, 3))
    images = frames(3, 2, 6, 6, 3)
    expected = encoder(images)
    assert torch.equal(encoder.train()(images), expected)


def test_training_changes_the_frames_of_a_sample_alike() -> None:
    encoder = pixels((8, 8, 3), crop=[5, 5], shift=1, brightness=0.2, contrast=0.2).train()
    images = frames(1, 1, 8, 8, 3).expand(4, 3, -1, -1, -1)
    features = encoder(images)
    assert torch.equal(features[:, 0], features[:, 2])
    assert not torch.equal(features[0], features[1])


def test_a_view_that_is_given_wins_over_the_mode() -> None:
    encoder = pixels((8, 8, 3), crop=[5, 5], contrast=0.5)
    images = frames(3, 2, 8, 8, 3)
    view = random_view(encoder._config, 3, (8, 8), torch.Generator().manual_seed(0))
    expected = encoder(images, view)
    assert not torch.equal(expected, encoder(images))
    assert torch.equal(encoder.train()(images, view), expected)


def test_images_are_resized_first_and_cropped_then() -> None:
    encoder = pixels((8, 8, 3), resize=[4, 6], crop=[2, 2])
    assert encoder.feature_dim == 12
    images = frames(2, 2, 8, 8, 3)
    assert encoder(images).shape == (2, 2, 12)
    one_colour = torch.full((1, 1, 8, 8, 3), 77, dtype=torch.uint8)
    torch.testing.assert_close(encoder(one_colour), torch.full((1, 1, 12), 77 / 127.5 - 1))


def test_frames_that_are_resized_already_are_taken_as_they_are() -> None:
    encoder = pixels((8, 8, 3), resize=[4, 6], crop=[2, 2])
    images = frames(2, 2, 8, 8, 3)
    beforehand = resized_frames(images.flatten(0, 1).numpy(), (4, 6))
    assert encoder.resized_shape == beforehand.shape[1:] == (4, 6, 3)
    assert torch.equal(encoder(torch.from_numpy(beforehand).unflatten(0, (2, 2))), encoder(images))


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        ((240, 320), (96, 128)),
        ((1080, 1920), (72, 128)),
        ((200, 300), (84, 128)),
        ((300, 200), (128, 84)),
        ((4000, 10), (128, 4)),
        ((128, 128), (128, 128)),
        ((96, 96), (96, 96)),
    ],
)
def test_large_images_are_resized_unless_told_otherwise(
    frame: tuple[int, int], size: tuple[int, int]
) -> None:
    assert ImageEncoderConfig().resized((*frame, 3)) == size
    assert ImageEncoderConfig(resize=[]).resized((*frame, 3)) == frame
    assert ImageEncoderConfig(resize=[7, 9]).resized((*frame, 3)) == (7, 9)


def test_a_crop_may_be_a_share_of_what_is_left_after_resizing() -> None:
    config = ImageEncoderConfig(crop=[0.9, 0.5])
    assert config.crop_of((96, 128)) == (86, 64)
    assert config.crop_of((1, 1)) == (1, 1)
    encoder = pixels((240, 320, 1), crop=[0.25, 32])
    assert encoder.feature_dim == 24 * 32


def test_resizing_averages_and_gives_whole_levels() -> None:
    encoder = pixels((4, 4, 1), resize=[1, 1])
    images = torch.zeros(1, 1, 4, 4, 1, dtype=torch.uint8)
    images[:, :, :, 2:] = 101
    # The mean is 50.5, which no camera records.
    level = (encoder(images) + 1) * 127.5
    torch.testing.assert_close(level, torch.full((1, 1, 1), 50.0), atol=1e-3, rtol=0)
    enlarged = pixels((1, 1, 1), resize=[2, 3])(torch.full((1, 1, 1, 1, 1), 9, dtype=torch.uint8))
    torch.testing.assert_close(enlarged, torch.full((1, 1, 6), 9 / 127.5 - 1))


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"crop": [17, 16]}, "16 x 16 pixels, smaller than the crop 17 x 16"),
        ({"crop": [16, 17]}, "16 x 16 pixels, smaller than the crop 16 x 17"),
        ({"resize": [8, 8], "crop": [9, 8]}, "8 x 8 pixels, smaller than the crop 9 x 8"),
    ],
)
def test_a_crop_larger_than_the_images_is_refused(options: dict[str, Any], sizes: str) -> None:
    config = IMAGE_ENCODERS.get("compact")(**options)
    with pytest.raises(InputError, match=f"images 'wrist' are {sizes}.*or resize"):
        config.create("wrist", (16, 16, 3))


def test_resizing_makes_room_for_a_crop() -> None:
    config = IMAGE_ENCODERS.get("compact")(resize=[24, 24], crop=[20, 20])
    encoder = config.create("wrist", (16, 16, 3))
    assert encoder(frames(1, 1, 16, 16, 3)).shape == (1, 1, encoder.feature_dim)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": [84]}, r"crop is \[84\], expected height and width, or nothing"),
        ({"crop": [1.5, 84]}, r"crop is \[1.5, 84\], expected whole numbers of pixels, or shares"),
        ({"resize": "off"}, r"resize: found 'off', expected list\[int\] | auto"),
        ({"resize": [3, 4, 5]}, r"resize is \[3, 4, 5\], expected height and width, or nothing"),
        ({"crop": [84, 84, 3]}, r"crop has 3 elements, expected 0 to 2"),
        ({"crop": [0, 84]}, r"crop\[0\] is 0, expected a number from 0.01"),
        ({"resize": [96]}, r"resize is \[96\], expected height and width"),
        ({"resize": [MAX_IMAGE_SIDE + 1, 8]}, r"resize\[0\] is 4097"),
        ({"shift": -1}, "shift is -1, expected an integer from 0 to 256"),
        ({"brightness": 1.5}, "brightness is 1.5, expected a number from 0 to 1"),
        ({"contrast": float("nan")}, "contrast is nan"),
        ({"saturation": -0.1}, "saturation is -0.1"),
    ],
)
def test_bad_options_print_their_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageEncoderConfig(**options)


def test_an_encoder_without_a_backbone_of_its_own_has_nothing_frozen_or_to_load() -> None:
    encoder = pixels((4, 4, 3))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert encoder.frozen_parameters() == []
    encoder.load_pretrained()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    config = IMAGE_ENCODERS.get("compact")()
    assert config.resolved() is config


@pytest.mark.parametrize("name", ["compact", "resnet18"])
def test_it_exports_as_one_graph_with_a_free_batch(name: str) -> None:
    options = {"width": 16} if name == "resnet18" else {}
    config = IMAGE_ENCODERS.get(name)(resize=[40, 40], crop=[36, 32], **options)
    encoder = config.create("camera", (48, 44, 3)).eval()
    program = torch.export.export(
        encoder,
        (frames(3, 2, 48, 44, 3),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        strict=False,
    )
    for batch in (1, 5):
        images = frames(batch, 2, 48, 44, 3)
        torch.testing.assert_close(program.module()(images), encoder(images))
