"""Views of a batch, at random, at the centre, or always the same: crops, shifts and colours."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.encoders.augment import (
    View,
    _crops_by_index,
    centre_crop,
    centre_view,
    change_colours,
    crop_images,
    random_view,
)
from lfm_policy.encoders.image_options import CompactConfig, ImageEncoderConfig

IMAGES = torch.arange(2 * 3 * 6 * 7 * 2, dtype=torch.int32).reshape(2, 3, 6, 7, 2)

sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))
places = st.lists(st.integers(-3, 5), min_size=2, max_size=2)


def frames(n: int, steps: int, size: tuple[int, int], channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n, steps, *size, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@given(top=st.integers(-3, 5), left=st.integers(-3, 5))
def test_crops_are_slices_with_repeated_edges(top: int, left: int) -> None:
    view = View(torch.tensor([top, 0]), torch.tensor([left, 1]))
    crops = crop_images(IMAGES, view, (4, 5))
    rows = [min(max(top + i, 0), 5) for i in range(4)]
    columns = [min(max(left + i, 0), 6) for i in range(5)]
    assert torch.equal(crops[0], IMAGES[0][:, rows][:, :, columns])
    assert torch.equal(crops[1], IMAGES[1][:, 0:4, 1:6])


@given(top=places, left=places, size=st.tuples(st.integers(1, 6), st.integers(1, 7)))
def test_a_gpu_makes_the_same_crops(top: list[int], left: list[int], size: tuple[int, int]) -> None:
    view = View(torch.tensor(top), torch.tensor(left))
    crops = _crops_by_index(IMAGES, view, size)
    assert torch.equal(crops, crop_images(IMAGES, view, size))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=sizes)
def test_the_centre_view_has_equal_margins(data: st.DataObject, size: tuple[int, int]) -> None:
    crop = (data.draw(st.integers(1, size[0])), data.draw(st.integers(1, size[1])))
    options = ImageEncoderConfig(crop=crop)
    view = centre_view(options, 2, size)
    assert view.colour is None
    for start, whole, part in zip((view.top, view.left), size, crop, strict=True):
        before, after = int(start[0]), whole - part - int(start[0])
        assert 0 <= after - before <= 1
    images = frames(2, 1, size)
    assert torch.equal(
        crop_images(images, view, crop), centre_crop(images, options.centre_of(size), crop)
    )


def test_whole_images_are_not_copied() -> None:
    images = frames(2, 2, (5, 6))
    view = centre_view(ImageEncoderConfig(), 2, (5, 6))
    assert crop_images(images, view, (5, 6)) is images
    assert centre_crop(images, (0, 1), (4, 4)).data_ptr() == images[:, :, 0, 1].data_ptr()


@pytest.mark.parametrize("shift", [0, 2])
def test_random_crops_reach_every_allowed_place_and_no_other(shift: int) -> None:
    options = ImageEncoderConfig(crop=(4, 5), shift=shift)
    view = random_view(options, 2000, (6, 8), torch.Generator().manual_seed(0))
    assert set(view.top.tolist()) == set(range(-shift, 2 + shift + 1))
    assert set(view.left.tolist()) == set(range(-shift, 3 + shift + 1))
    assert view.colour is None


@pytest.mark.parametrize("strengths", [(0.1, 0.0, 0.5), (0.0, 0.2, 0.0)])
def test_random_colours_stay_within_their_strength(strengths: tuple[float, float, float]) -> None:
    brightness, contrast, saturation = strengths
    options = ImageEncoderConfig(brightness=brightness, contrast=contrast, saturation=saturation)
    view = random_view(options, 2000, (6, 8), torch.Generator().manual_seed(0))
    assert view.colour is not None and view.colour.shape == (2000, 3)
    for largest, strength in zip(view.colour.abs().amax(dim=0), strengths, strict=True):
        assert 0.95 * strength <= largest <= strength
    assert view.colour.mean(dim=0).abs().max() < 0.02


def test_random_views_come_from_their_generator_or_the_global_one() -> None:
    options = ImageEncoderConfig(crop=(4, 4), brightness=0.1)
    torch.manual_seed(3)
    first = random_view(options, 5, (9, 9))
    torch.manual_seed(3)
    second = random_view(options, 5, (9, 9))
    third = random_view(options, 5, (9, 9), torch.Generator().manual_seed(3))
    for other in (second, third):
        assert torch.equal(first.top, other.top) and torch.equal(first.left, other.left)
        assert first.colour is not None and other.colour is not None
        assert torch.equal(first.colour, other.colour)


def test_colours() -> None:
    images = torch.rand(2, 3, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(change_colours(images, torch.zeros(2, 3)), images)
    grey = change_colours(images, torch.tensor([[0.0, 0.0, -1.0]] * 2))
    torch.testing.assert_close(grey, images.mean(-1, keepdim=True).expand_as(images))
    flat = change_colours(images, torch.tensor([[0.0, -1.0, 0.0]] * 2))
    mean = images.mean((2, 3, 4), keepdim=True).expand_as(images)
    torch.testing.assert_close(flat, mean)
    assert float(change_colours(images, torch.tensor([[1.0, 0, 0]] * 2)).min()) == 1
    # A fourth channel is no colour: a mask, or a depth.
    more = torch.cat([images, images.mean(-1, keepdim=True)], dim=-1)
    changed = change_colours(more, torch.tensor([[0.1, 0.2, -0.3]] * 2))
    assert torch.equal(changed[..., 3:], more[..., 3:])
    alone = change_colours(images, torch.tensor([[0.1, 0.2, -0.3]] * 2))
    torch.testing.assert_close(changed[..., :3], alone)


def test_colours_stay_between_black_and_white() -> None:
    images = torch.rand(2, 1, 5, 5, 3)
    changed = change_colours(images, torch.tensor([[0.9, 1.0, 1.0], [-0.9, 1.0, 1.0]]))
    assert changed.min() == 0 and changed.max() == 1


def test_all_frames_of_a_sample_change_alike_and_samples_differently() -> None:
    one = frames(1, 1, (9, 9))
    images = one.expand(4, 3, -1, -1, -1)
    options = ImageEncoderConfig(crop=(5, 5), brightness=0.3, contrast=0.3, saturation=0.3)
    view = random_view(options, 4, (9, 9), torch.Generator().manual_seed(0))
    assert view.colour is not None
    seen = change_colours(crop_images(images, view, (5, 5)).float() / 255, view.colour)
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])
    assert all(not torch.equal(seen[0], seen[i]) for i in range(1, 4))


def test_a_view_of_one_sample_can_be_repeated() -> None:
    options = ImageEncoderConfig(crop=(5, 5), contrast=0.3)
    one = random_view(options, 1, (9, 9), torch.Generator().manual_seed(0))
    many = one.repeat(3)
    assert many.colour is not None and one.colour is not None
    assert many.top.tolist() == one.top.tolist() * 3
    assert many.left.tolist() == one.left.tolist() * 3
    assert torch.equal(many.colour, one.colour.expand(3, 3))
    plain = centre_view(options, 1, (9, 9)).repeat(2)
    assert plain.colour is None and len(plain.top) == 2


def test_fixed_views_are_reproducible_and_view_0_is_the_centre() -> None:
    config = CompactConfig(crop=[16, 16], brightness=0.2)
    encoders = [config.create("camera", (32, 32, 3)) for _ in range(2)]
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    views = [[encoder.fixed_view(number) for number in range(6)] for encoder in encoders]
    assert torch.equal(torch.random.get_rng_state(), before)
    centre = views[0][0]
    assert (centre.top.tolist(), centre.left.tolist(), centre.colour) == ([8], [8], None)
    for first, second in zip(*views, strict=True):
        assert torch.equal(first.top, second.top) and torch.equal(first.left, second.left)
        if first.colour is not None:
            assert second.colour is not None and torch.equal(first.colour, second.colour)
    assert len({(int(view.top), int(view.left)) for view in views[0]}) > 3
