"""Resizing: torch's averages, in whole levels that do not depend on the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from lfm_policy.data.images import resize
from lfm_policy.data.images.resize import TIE, Resize, resized_frames


@pytest.mark.parametrize(
    ("size_in", "size"),
    [
        *[((24, 20), (18, 17)), ((32, 48), (8, 12)), ((9, 9), (12, 10)), ((5, 7), (1, 1))],
        # Of more rows and columns than are made at once.
        *[((120, 160), (48, 64)), ((37, 90), (36, 33)), ((20, 20), (45, 50)), ((200, 3), (17, 16))],
    ],
)
def test_it_is_torchs_antialiased_interpolation(
    size_in: tuple[int, int], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, *size_in, 3), dtype=torch.uint8, generator=generator)
    resized = Resize(size_in, size)(frames)
    assert resized.shape == (2, 3, *size, 3) and resized.dtype == torch.uint8
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).double()
    exact = functional.interpolate(images, size, mode="bilinear", antialias=True)
    expected = (exact + TIE).floor().permute(0, 2, 3, 1).unflatten(0, (2, 3))
    # Hardly a pixel lies near enough to a limit for float32 to decide otherwise.
    assert ((resized.double() - expected) != 0).double().mean() < 1e-3
    assert (resized.double() - exact.permute(0, 2, 3, 1).unflatten(0, (2, 3))).abs().max() <= 0.52


def test_black_and_white_stay_what_they_are() -> None:
    for level in (0, 255):
        frames = torch.full((1, 1, 11, 13, 1), level, dtype=torch.uint8)
        assert (Resize((11, 13), (6, 9))(frames) == level).all()


def test_half_a_level_is_rounded_down_everywhere() -> None:
    frames = torch.tensor([[10, 11]], dtype=torch.uint8).view(1, 1, 1, 2, 1)
    assert Resize((1, 2), (1, 1))(frames).item() == 10
    assert Resize((1, 2), (1, 1))(frames + 1).item() == 11


def test_its_weights_are_not_part_of_a_checkpoint() -> None:
    assert not Resize((4, 4), (2, 2)).state_dict()


def test_arrays_are_resized_in_parts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (7, 24, 20, 3), dtype=np.uint8)
    whole = resized_frames(frames, (18, 17))
    assert whole.shape == (7, 18, 17, 3) and whole.dtype == np.uint8
    monkeypatch.setattr(resize, "BYTES_AT_ONCE", 3 * frames[0].nbytes)
    np.testing.assert_array_equal(resized_frames(frames, (18, 17)), whole)
    np.testing.assert_array_equal(resized_frames(frames[..., ::-1], (18, 17)), whole[..., ::-1])
    assert resized_frames(frames, (24, 20)) is frames
