"""What the options of the compact encoder add to its keypoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.encoders.compact import CompactEncoder, _Coordinates, _FineScale
from lfm_policy.encoders.image_options import CompactConfig

OPTIONS: dict[str, dict[str, Any]] = {
    "two scales": {"fine_keypoints": 3},
    "spread": {"spread": True},
    "values": {"values": 2},
    "coordinates": {"coordinates": True},
    "temperature": {"temperature": 0.25},
    "temperatures": {"temperatures": "each"},
    "features": {"output_dim": 7},
}
OPTIONS["all"] = {key: value for one in list(OPTIONS.values()) for key, value in one.items()}
SIDE = 68
CELL = {"eighth": 8.0, "quarter": 4.0}


def make(side: int = 24, **options: Any) -> CompactEncoder:
    torch.manual_seed(0)
    encoder = CompactConfig(width=8, keypoints=4, **options).create("camera", (side, side, 3))
    assert isinstance(encoder, CompactEncoder)
    return encoder


def frames(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_can_be_combined_and_all_weights_learn(name: str) -> None:
    encoder = make(**OPTIONS[name])
    features = encoder(frames(4, 2, 24, 24, 3))
    assert features.shape == (4, 2, encoder.feature_dim) and features.dtype == torch.float32
    (features * torch.randn(features.shape)).sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, key


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(16, 60),
    width=st.integers(16, 60),
    fine=st.integers(0, 3),
    spread=st.booleans(),
    values=st.integers(0, 2),
    output=st.integers(0, 5),
)
def test_feature_vectors_are_as_long_as_the_options_say(
    height: int, width: int, fine: int, spread: bool, values: int, output: int
) -> None:
    config = CompactConfig(
        width=4,
        keypoints=2,
        fine_keypoints=fine,
        spread=spread,
        values=values,
        output_dim=output,
        coordinates=True,
    )
    encoder = config.create("camera", (height, width, 1))
    n = output or (2 + fine) * (2 + 3 * spread + values)
    assert encoder.feature_dim == config.feature_dim == n
    assert encoder(frames(1, 1, height, width, 1)).shape == (1, 1, n)


def test_without_options_an_encoder_is_what_it_was() -> None:
    encoder = make()
    assert {name.partition(".")[0] for name in encoder.state_dict()} == {"layers", "positions"}
    images = torch.randn(2, 3, 24, 24)
    assert torch.equal(encoder.features(images), encoder.positions(encoder.layers(images)))


def test_the_temperature_is_that_of_all_scales_and_learns() -> None:
    encoder = make(temperature=0.25, temperatures="each", fine_keypoints=3)
    of_each = (encoder.positions.temperature, encoder.fine_keypoints.positions.temperature)
    assert [len(one) for one in of_each] == [4, 3]
    for one in of_each:
        assert one.requires_grad and torch.equal(one, torch.full_like(one, 0.25))
    sharp, plain = make(temperature=0.05).eval(), make().eval()
    images = frames(3, 1, 24, 24, 3)
    assert sharp(images).std(dim=0).mean() > 3 * plain(images).std(dim=0).mean()


@pytest.mark.parametrize("name", OPTIONS)
def test_options_leave_the_first_weights_of_a_seed_as_they_are(name: str) -> None:
    plain, other = make().state_dict(), make(**OPTIONS[name]).state_dict()
    same = [key for key in plain if key != "positions.temperature"]
    assert all(torch.equal(plain[key], other[key]) for key in same)


# -- where keypoints are --------------------------------------------------------------------------


def hill(x: float, y: float) -> Tensor:
    """Return an image that is brightest at a place and darker by the square of the distance."""
    at = torch.arange(SIDE, dtype=torch.float64)
    squares = (at[:, None] - y) ** 2 + (at - x) ** 2
    levels = 250 * (1 - squares / 62**2)
    # Channels are rounded differently: their mean is finer than one of them.
    thirds = torch.arange(3) / 3
    return (levels[..., None] + thirds).clamp(min=0).to(torch.uint8)[None, None]


@torch.no_grad()
def measuring(scale: str) -> CompactEncoder:
    """Return an encoder whose maps of a scale are the brightness, under a softmax a cell wide."""
    encoder = CompactConfig(width=4, keypoints=1, n_blocks=0, fine_keypoints=1).create(
        "camera", (SIDE, SIDE, 3)
    )
    assert isinstance(encoder, CompactEncoder)
    stem, norm, _, second, last_norm, _, maps = encoder.layers
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()
    stem.weight[:] = 1 / (3 * 36)
    second.weight[:, :, 1, 1] = 1 / 4
    maps.weight[:] = 1 / 8
    assert encoder.fine is not None
    encoder.fine.lateral.weight[:] = 1 / 4
    encoder.fine_keypoints.maps.weight[:] = 1 / 4
    for one in (norm, last_norm):
        one.bias.fill_(20)  # so that nothing is cut off
    seen: list[Tensor] = []
    last = encoder.layers[-2] if scale == "eighth" else encoder.fine
    handle = last.register_forward_hook(lambda _, given, found: seen.append(found.mean(1)[0]))
    n = 8 if scale == "quarter" else 4
    encoder(hill(CELL[scale] * n + 1.5, CELL[scale] * n + 1.5))
    handle.remove()
    softmax = encoder.positions if scale == "eighth" else encoder.fine_keypoints.positions
    softmax.temperature.fill_(2 * float(seen[0][n, n] - seen[0][n, n + 1]))
    return encoder.eval()


def place(encoder: CompactEncoder, scale: str, image: Tensor) -> Tensor:
    """Return x and y of the keypoint of a scale in pixels of the image."""
    x, y, fine_x, fine_y = encoder(image)[0, 0]
    found = torch.stack([x, y] if scale == "eighth" else [fine_x, fine_y])
    # Pixel 1.5 is the centre of what the first cell of either scale sees, 65.5 of the last.
    return 1.5 + 32 * (found + 1)


@pytest.mark.parametrize("scale", CELL)
def test_a_bright_spot_is_found_to_a_tenth_of_a_pixel(scale: str) -> None:
    encoder = measuring(scale)
    rng = torch.Generator().manual_seed(1)
    for x, y in (26 + 14 * torch.rand(12, 2, generator=rng)).tolist():
        found = place(encoder, scale, hill(x, y))
        assert (found - torch.tensor([x, y])).abs().max() < 0.1, (x, y, found)


@pytest.mark.parametrize("scale", CELL)
@pytest.mark.parametrize("move", [(0.5, 0.0), (0.0, -1.0), (3.3, 2.2)])
def test_a_spot_that_moves_moves_its_keypoint(scale: str, move: tuple[float, float]) -> None:
    encoder = measuring(scale)
    before = place(encoder, scale, hill(31.0, 33.4))
    after = place(encoder, scale, hill(31.0 + move[0], 33.4 + move[1]))
    assert (after - before - torch.tensor(move)).abs().max() < 0.1


def test_what_the_fine_scale_knows_of_its_surroundings_lies_in_its_place() -> None:
    scale = _FineScale((5, 7), 4, 8)
    nn.init.zeros_(scale.lateral.weight)
    nn.init.zeros_(scale.lateral.bias)
    nn.init.constant_(scale.context.weight, 1 / 8)
    eighth = torch.arange(12.0).view(1, 1, 3, 4).expand(-1, 8, -1, -1)
    fine = scale(torch.randn(1, 4, 5, 7), eighth)
    assert fine.shape == (1, 4, 5, 7)
    # A cell of an eighth lies where every second of a quarter does.
    torch.testing.assert_close(fine[:, :, ::2, ::2], eighth[:, :4])
    assert torch.equal(fine[:, :, 1::2], fine[:, :, 0:4:2])


def test_coordinates_are_two_more_channels_of_a_convolution() -> None:
    before = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    coordinates = _Coordinates((6, 9), 4)
    images = torch.randn(2, 3, 6, 9)
    rows = torch.linspace(-1, 1, 6)[:, None].expand(6, 9)
    columns = torch.linspace(-1, 1, 9).expand(6, 9)
    joined = torch.cat([images, torch.stack([columns, rows]).expand(2, -1, -1, -1)], 1)
    weight = torch.cat([before.weight, coordinates.conv.weight], 1)
    expected = functional.conv2d(joined, weight, before.bias, stride=2, padding=1)
    torch.testing.assert_close(coordinates(before(images)), expected)


def test_coordinates_tell_two_like_places_apart() -> None:
    images = torch.zeros(1, 1, 40, 40, 3, dtype=torch.uint8)
    told = []
    for known in (False, True):
        encoder = make(40, coordinates=known).eval()
        starts: list[Tensor] = []
        encoder.layers[4].register_forward_pre_hook(
            lambda _, start, starts=starts: starts.append(start[0])  # type: ignore[misc]
        )
        encoder(images)
        told.append(starts[0][0, :, 2, 2] - starts[0][0, :, 2, 3])
    # Far from the edges an even image looks the same everywhere without them.
    assert told[0].abs().max() < 1e-6 < 1e-2 < told[1].abs().max()
