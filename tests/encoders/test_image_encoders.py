"""Image encoders that start from nothing: the compact one, ResNets, and ResNet-18."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lfm_policy.encoders.augment import centre_view
from lfm_policy.encoders.image_options import CompactConfig, ResNet18Config, ResNetConfig
from lfm_policy.errors import InputError

STAGES: dict[str, Any] = {"stem": 16, "widths": [16, 32], "blocks": [1, 2], "keypoints": 5}

compact = partial(CompactConfig, width=8, keypoints=5)
resnet = partial(ResNetConfig, output_dim=7, rectified=False, **STAGES)
resnet18 = partial(ResNet18Config, width=16, keypoints=5, output_dim=7)
SMALL: dict[str, partial[Any]] = {
    "compact": compact,
    **{f"compact of {n}": partial(compact, n_blocks=n) for n in (0, 1, 3)},
    "resnet": resnet,
    "resnet without norms": partial(resnet, norm="none"),
    "resnet18": resnet18,
}
SIZES = {
    "compact": [(16, 16), (17, 31), (33, 16), (47, 50), (96, 96)],
    **{f"compact of {n}": [(24, 24)] for n in (0, 1, 3)},
    "resnet": [(9, 9), (33, 65), (70, 47)],
    "resnet without norms": [(9, 9), (33, 65), (70, 47)],
    "resnet18": [(33, 33), (32, 64), (33, 65), (70, 47), (64, 64)],
}


def frames(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes]
)
def test_it_sees_any_channels_and_sizes_and_all_of_it_learns(
    name: str, size: tuple[int, int], channels: int
) -> None:
    torch.manual_seed(0)
    encoder = SMALL[name]().create("camera", (*size, channels))
    found = encoder(frames(4, 2, *size, channels))
    n_numbers = 10 if name.startswith("compact") else 7
    assert found.shape == (4, 2, encoder.feature_dim) == (4, 2, n_numbers)
    assert (found[0] - found[1]).abs().max() > 1e-5
    if name.startswith("compact"):  # keypoints alone
        assert found.abs().max() <= 1
    found.square().sum().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, parameter_name


@pytest.mark.parametrize("name", SMALL)
def test_frames_do_not_see_one_another(name: str) -> None:
    encoder = SMALL[name]().create("camera", (40, 40, 3)).eval()
    images = frames(3, 2, 40, 40, 3)
    together = encoder(images)
    for i, j in ((0, 0), (2, 1)):
        alone = encoder(images[i : i + 1, j : j + 1])[0, 0]
        torch.testing.assert_close(together[i, j], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_encoder(name: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(SMALL[name]().create("camera", (40, 40, 3)).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_it_can_be_made_without_memory() -> None:
    config = CompactConfig(width=1024, n_blocks=32, keypoints=4096)
    with torch.device("meta"):
        encoder = config.create("camera", (4096, 4096, 4))
    assert all(tensor.is_meta for tensor in encoder.state_dict().values())


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (CompactConfig(crop=[15, 96]), 96, "'compact' encoder sees 15 x 96 pixels, expected"),
        (ResNet18Config(crop=[96, 31]), 96, "'resnet18' encoder sees 96 x 31 pixels, expected at"),
        (resnet(), 8, "sees 8 x 8 pixels, expected at least 8 x 9"),
        (resnet18(), 32, "sees 32 x 32 pixels, expected at least 32 x 33"),
    ],
)
def test_too_few_pixels_are_refused(config: Any, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.create("camera", (size, size, 3))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (CompactConfig, {"width": 30}, "width is 30, expected .* a multiple of 4"),
        (CompactConfig, {"width": 10**6}, "width is 1000000, expected an integer from 4 to 1024"),
        (CompactConfig, {"n_blocks": -1}, "n_blocks is -1"),
        (CompactConfig, {"keypoints": 0}, "keypoints is 0"),
        (resnet, {"blocks": [1]}, r"blocks is \[1\], expected as many numbers as widths"),
        (resnet, {"widths": [16, 24]}, "group_size is 16, expected a divisor of 24 channels"),
        (resnet, {"norm": "batch"}, "norm is 'batch'"),
        (ResNet18Config, {"width": 24}, "width is 24, expected .* a multiple of 16"),
        (ResNet18Config, {"width": 8}, "width is 8, expected an integer from 16 to 1024"),
        (ResNet18Config, {"keypoints": 10**6}, "keypoints is 1000000"),
        (ResNet18Config, {"output_dim": 0}, "output_dim is 0"),
    ],
)
def test_bad_options_print_their_value(config: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**options)


# -- of one of them -------------------------------------------------------------------------------


def test_a_frame_costs_the_compact_encoder_at_most_20_mflop() -> None:
    encoder = CompactConfig(crop=[84, 84]).create("camera", (96, 96, 3)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(frames(1, 1, 96, 96, 3))
    # One multiplication and one addition are two.
    assert 15e6 < counter.get_total_flops() <= 20e6


def of_kind(encoder: nn.Module, kind: Any) -> list[Any]:
    return [module for module in encoder.modules() if isinstance(module, kind)]


def test_resnet18_has_the_convolutions_of_resnet_18() -> None:
    with torch.device("meta"):
        encoder = ResNet18Config().create("camera", (96, 96, 3))
    convolutions = of_kind(encoder, nn.Conv2d)
    # The first one, two per block in eight blocks, three shortcuts, and the one to keypoints.
    assert len(convolutions) == 1 + 16 + 3 + 1
    own = sum(m.weight.numel() for m in convolutions[:-1])
    # 11,689,512 parameters less the classifier (513,000) and the normalisation (9,600).
    assert own == 11_689_512 - 513_000 - 9_600
    assert not of_kind(encoder, nn.BatchNorm2d)


def test_a_resnet_may_have_the_stages_of_resnet_34() -> None:
    with torch.device("meta"):
        encoder = ResNetConfig(blocks=[3, 4, 6, 3]).create("camera", (96, 96, 3))
    assert len(of_kind(encoder, nn.Conv2d)) == 1 + 2 * 16 + 3 + 1


@pytest.mark.parametrize(("norm", "has_norms"), [("group", True), ("none", False)])
def test_a_resnet_has_norms_or_none(norm: str, has_norms: bool) -> None:
    encoder = resnet(norm=norm).create("camera", (9, 9, 3))
    assert bool(of_kind(encoder, nn.GroupNorm)) == has_norms


def test_features_of_a_resnet_are_cut_off_at_zero() -> None:
    torch.manual_seed(0)
    found = ResNetConfig(**STAGES).create("camera", (40, 40, 3))(frames(4, 1, 40, 40, 3))
    assert bool((found >= 0).all()) and bool((found == 0).any()) and bool((found > 0).any())


@pytest.mark.parametrize(("side", "floor", "rounded"), [(5, 0, 0), (6, 1, 1), (7, 1, 2), (9, 2, 2)])
def test_the_centre_of_torchvision(side: int, floor: int, rounded: int) -> None:
    for expected, asked in ((floor, False), (rounded, True)):
        config = ResNetConfig(crop=[4, 4], rounded_centre=asked)
        assert config.centre_of((side, 4)) == (expected, 0)
        assert centre_view(config, 1, (side, 4)).top.tolist() == [expected]


def test_resized_frames_keep_fractions_of_levels_where_asked() -> None:
    seen = []
    for whole in (True, False):
        config = ResNetConfig(resize=[32, 40], whole=whole, **STAGES)
        encoder = config.create("camera", (50, 63, 3)).eval()
        encoder.features = lambda images: seen.append(images) or images[:, :, 0, 0]  # type: ignore[assignment, func-returns-value, method-assign]
        encoder(frames(1, 1, 50, 63, 3))
    levels = [(images + 1) * 127.5 for images in seen]
    assert float((levels[0] - levels[0].round()).abs().max()) < 1e-3
    assert float((levels[1] - levels[1].round()).abs().max()) > 0.1
    assert float((levels[0] - levels[1]).abs().max()) < 0.6
