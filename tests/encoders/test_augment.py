"""Crops, shifts and colours of image batches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.encoders.augment import (
    View,
    _crops_by_index,
    centre_view,
    change_colours,
    crop_images,
    random_view,
)
from lfm_policy.encoders.image_options import ImageEncoderConfig

IMAGES = torch.arange(2 * 3 * 6 * 7 * 2, dtype=torch.int32).reshape(2, 3, 6, 7, 2)


@given(top=st.integers(-3, 5), left=st.integers(-3, 5))
def test_crops_are_slices_with_repeated_edges(top: int, left: int) -> None:
    view = View(torch.tensor([top, 0]), torch.tensor([left, 1]))
    crops = crop_images(IMAGES, view, (4, 5))
    rows = [min(max(top + i, 0), 5) for i in range(4)]
    columns = [min(max(left + i, 0), 6) for i in range(5)]
    assert torch.equal(crops[0], IMAGES[0][:, rows][:, :, columns])
    assert torch.equal(crops[1], IMAGES[1][:, 0:4, 1:6])


@given(
    top=st.lists(st.integers(-3, 5), min_size=2, max_size=2),
    left=st.lists(st.integers(-3, 5), min_size=2, max_size=2),
    size=st.tuples(st.integers(1, 6), st.integers(1, 7)),
)
def test_a_gpu_makes_the_same_crops(top: list[int], left: list[int], size: tuple[int, int]) -> None:
    view = View(torch.tensor(top), torch.tensor(left))
    crops = _crops_by_index(IMAGES, view, size)
    assert torch.equal(crops, crop_images(IMAGES, view, size))


def test_the_centre_is_the_centre() -> None:
    view = centre_view(ImageEncoderConfig(crop=(4, 3)), 2, (6, 7))
    assert torch.equal(crop_images(IMAGES, view, (4, 3)), IMAGES[:, :, 1:5, 2:5])


@given(seed=st.integers(0, 1000), shift=st.integers(0, 2))
def test_random_views_stay_in_their_range(seed: int, shift: int) -> None:
    options = ImageEncoderConfig(crop=(4, 3), shift=shift, contrast=0.2)
    view = random_view(options, 50, (6, 7), torch.Generator().manual_seed(seed))
    assert -shift <= int(view.top.min()) and int(view.top.max()) <= 2 + shift
    assert -shift <= int(view.left.min()) and int(view.left.max()) <= 4 + shift
    assert view.colour is not None
    assert float(view.colour[:, [0, 2]].abs().max()) == 0
    assert float(view.colour[:, 1].abs().max()) <= 0.2


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
