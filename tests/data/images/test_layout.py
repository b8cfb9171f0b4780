"""How stored images lie, and that nothing else becomes one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.images.layout import ImageLayout, image_layout
from lfm_policy.errors import InputError

SIDES = st.integers(5, 40)


def layout(shape: tuple[int, ...], dtype: str = "u1") -> ImageLayout | None:
    return image_layout(shape, np.dtype(dtype))


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((96, 96, 3), "u1", "h w c"),
        ((96, 96, 3), "f4", "h w c"),
        ((24, 32, 1), "u1", "h w c"),
        ((24, 32, 4), "u1", "h w c"),
        ((3, 96, 96), "u1", "c h w"),
        ((1, 96, 96), "u1", "c h w"),
        ((4, 96, 96), "u1", "c h w"),
        ((3, 5, 5), "u1", "c h w"),
        ((3, 96, 96), "f4", "c h w"),
        ((96, 128), "u1", "h w"),
        ((16, 16), "u1", "h w"),
        # both would do: channels last win
        ((3, 96, 3), "u1", "h w c"),
        ((3, 3, 3), "u1", "h w c"),
        ((4, 96, 1), "u1", "h w c"),
        # no images
        ((7,), "u1", None),
        ((96,), "u1", None),
        ((15, 96), "u1", None),
        ((96, 96), "f4", None),
        ((96, 96), "u2", None),
        ((96, 96), "?", None),
        ((2, 96, 96), "u1", None),
        ((5, 96, 96), "u1", None),
        ((3, 2, 96), "u1", None),
        ((3, 96, 2), "u1", None),
        ((3, 15, 96), "f4", None),
        ((3, 96, 96), "?", None),
        ((2, 3, 96, 96), "u1", None),
        ((), "u1", None),
    ],
)
def test_what_a_shape_is_taken_for(shape: tuple[int, ...], dtype: str, axes: str | None) -> None:
    found = layout(shape, dtype)
    assert (found.axes if found else None) == axes


@settings(max_examples=50)
@given(height=SIDES, width=SIDES, channels=st.sampled_from([1, 3, 4]), n=st.integers(0, 3))
def test_every_layout_of_the_same_images_gives_the_same_frames(
    height: int, width: int, channels: int, n: int
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (n, height, width, channels), np.uint8)
    last, first = layout((height, width, channels)), layout((channels, height, width))
    assert last is not None and last.is_plain and last.remark("front") == ""
    assert last.to_frames(images) is images  # existing data are read as ever
    if width in (1, 3, 4):
        return
    assert first is not None and first.frame_shape == last.frame_shape == (height, width, channels)
    np.testing.assert_array_equal(first.to_frames(images.transpose(0, 3, 1, 2)), images)
    assert not first.is_plain
    assert first.remark("front") == (
        f"front: channels first {(channels, height, width)}, read as {(height, width, channels)}"
    )


@given(height=st.integers(16, 40), width=st.integers(16, 40))
def test_grey_images_get_an_axis_of_channels(height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, height, width), np.uint8)
    found = layout((height, width))
    assert found is not None and found.frame_shape == (height, width, 1)
    np.testing.assert_array_equal(found.to_frames(images), images[..., None])
    assert found.remark("a") == f"a: grey {(height, width)}, read as {(height, width, 1)}"


@pytest.mark.parametrize("axes", ["h w c", "c h w"])
def test_an_opaque_fourth_channel_is_alpha(axes: str) -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, 8, 9, 4), np.uint8)
    images[..., 3] = 255
    stored = images if axes == "h w c" else images.transpose(0, 3, 1, 2)
    found = layout(stored.shape[1:])
    assert found is not None and found.frame_shape == (8, 9, 4)
    seen = found.with_alpha_of(stored[:1])
    assert seen.has_alpha and seen.frame_shape == (8, 9, 3)
    np.testing.assert_array_equal(seen.to_frames(stored), images[..., :3])
    kind = "RGBA (8, 9, 4)" if axes == "h w c" else "channels first (4, 8, 9)"
    assert seen.remark("a") == f"a: {kind}, read as (8, 9, 3) without alpha"
    images[0, 2, 3, 3] = 254  # depth, say
    kept = seen.with_alpha_of(stored[:1])
    assert not kept.has_alpha and kept.frame_shape == (8, 9, 4)
    np.testing.assert_array_equal(kept.to_frames(stored), images)


@pytest.mark.parametrize("axes", ["h w c", "c h w"])
def test_a_fourth_channel_that_is_opaque_at_first_is_no_alpha(axes: str) -> None:
    images = np.full((3, 8, 9, 4), 255, np.uint8)
    images[..., :3], images[2, 5, 6, 3] = 7, 31
    if axes == "c h w":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    layout = image_layout(images.shape[1:], images.dtype)
    assert layout is not None
    seen = layout.with_alpha_of(images[:1])
    np.testing.assert_array_equal(
        seen.to_frames(images[:2], "file"), np.full((2, 8, 9, 3), 7, np.uint8)
    )
    with pytest.raises(InputError, match=r"file: the fourth channel is 255 .* down to 31 in later"):
        seen.to_frames(images[1:], "file")


def test_three_channels_have_no_alpha() -> None:
    found = layout((8, 9, 3))
    assert found is not None
    assert not found.with_alpha_of(np.full((1, 8, 9, 3), 255, np.uint8)).has_alpha
