"""Noise on observations: how large, along what, and what stays exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lfm_policy.config.training import TrainingConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex
from lfm_policy.training.rows import obs_noise
from lfm_policy.training.rows.joined import JoinedWindows
from lfm_policy.training.rows.obs_noise import ObsNoise, _Spread

ROWS = 40_000


def make_windows(seed: int = 0, *, images: bool = False, scale: float = 1.0) -> WindowDataset:
    """A walk; ``points`` are a linear function of ``pos``, as corners are of a pose."""
    rng = np.random.default_rng(seed)
    pos = np.cumsum(rng.normal(size=(300, 2)), axis=0) * 0.1 * scale
    arrays = {"action": rng.normal(size=(300, 2)), "pos": pos, "points": pos @ _MAP}
    if images:
        arrays["camera"] = rng.integers(0, 255, size=(300, 4, 4, 3), dtype=np.uint8)
    numbers = {key: value for key, value in arrays.items() if key != "camera"}
    index = WindowIndex(np.array([150, 300]), 2, 4, 2)
    keys = tuple(key for key in arrays if key != "action")
    return WindowDataset(
        ReplayBuffer(arrays, np.array([150, 300])),
        Normalizer.fit(numbers, "identity"),
        index,
        keys,
    )


_MAP = np.array([[1.0, 0.5, -2.0], [0.0, 1.0, 1.0]])


def noise_of(
    windows: WindowDataset | JoinedWindows, scale: float, covariance: str
) -> dict[str, Tensor]:
    options = TrainingConfig(obs_noise=scale, obs_noise_covariance=covariance)
    obs = windows.gather_obs(torch.zeros(ROWS, dtype=torch.long))
    torch.manual_seed(0)
    displaced = ObsNoise(options, windows).displace(obs)
    assert list(displaced) == list(obs)
    return {key: displaced[key].double() - obs[key].double() for key in obs}


def covariance_of(obs: dict[str, Tensor]) -> Tensor:
    flat = torch.cat([value.flatten(1).double() for value in obs.values()], dim=1)
    flat = flat - flat.mean(0)
    return flat.T @ flat / len(flat)


def test_independent_noise_is_the_same_for_every_number() -> None:
    noise = noise_of(make_windows(), 0.3, "identity")
    size = 2 * (2 + 3)
    torch.testing.assert_close(
        covariance_of(noise), 0.09 * torch.eye(size).double(), atol=3e-3, rtol=0
    )


def test_shaped_noise_has_the_covariance_of_the_observations() -> None:
    windows = make_windows()
    noise = noise_of(windows, 0.5, "data")
    expected = 0.25 * covariance_of(windows.gather_obs(torch.arange(len(windows))))
    torch.testing.assert_close(
        covariance_of(noise), expected, atol=0.02 * float(expected.max()), rtol=0
    )


def test_shaped_noise_keeps_what_always_moves_together() -> None:
    windows = make_windows()
    noise = noise_of(windows, 0.5, "data")
    assert noise["pos"].std() > 0.1
    torch.testing.assert_close(
        noise["points"], noise["pos"] @ torch.from_numpy(_MAP), atol=1e-5, rtol=1e-4
    )
    # Two frames of a slow walk stay near one another, and are displaced alike.
    between = noise["pos"][:, 1] - noise["pos"][:, 0]
    assert between.std() < 0.3 * noise["pos"].std()
    independent = noise_of(windows, 0.5, "identity")["pos"]
    assert (independent[:, 1] - independent[:, 0]).std() > independent.std()


def test_shaped_noise_of_several_datasets_is_of_all_of_them() -> None:
    joined = JoinedWindows([make_windows(0), make_windows(1, scale=3.0)])
    noise = noise_of(joined, 1.0, "data")
    expected = covariance_of(joined.gather_obs(torch.arange(len(joined))))
    torch.testing.assert_close(
        covariance_of(noise), expected, atol=0.03 * float(expected.max()), rtol=0
    )


@pytest.mark.parametrize("covariance", ["identity", "data"])
def test_images_stay_as_they_are(covariance: str) -> None:
    windows = make_windows(images=True)
    obs = windows.gather_obs(torch.arange(5))
    options = TrainingConfig(obs_noise=0.5, obs_noise_covariance=covariance)
    displaced = ObsNoise(options, windows).displace(obs)
    assert torch.equal(displaced["camera"], obs["camera"])
    assert not torch.equal(displaced["pos"], obs["pos"])
    assert not torch.equal(displaced["points"], obs["points"])


@pytest.mark.parametrize("covariance", ["identity", "data"])
def test_no_noise_changes_nothing(covariance: str) -> None:
    windows = make_windows()
    obs = windows.gather_obs(torch.arange(5))
    noise = ObsNoise(TrainingConfig(obs_noise=0.0, obs_noise_covariance=covariance), windows)
    assert not noise
    for key, value in noise.displace(obs).items():
        assert torch.equal(value, obs[key])


@pytest.mark.parametrize("covariance", ["identity", "data"])
def test_a_generator_makes_the_noise_repeatable(covariance: str) -> None:
    windows = make_windows()
    obs = windows.gather_obs(torch.arange(5))
    noise = ObsNoise(TrainingConfig(obs_noise=0.2, obs_noise_covariance=covariance), windows)
    first, again, other = (
        noise.displace(obs, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in obs)
    assert not any(torch.equal(first[key], other[key]) for key in obs)


def test_what_never_varies_gets_no_noise() -> None:
    windows = make_windows()
    windows._tensors["points"][:] = 0.7
    noise = noise_of(windows, 0.5, "data")
    assert noise["points"].abs().max() < 1e-6
    assert noise["pos"].std() > 0.1


# -- features in place of images ----------------------------------------------------------------


def windows_with_features(views: int = 2, size: int = 3) -> WindowDataset:
    windows = make_windows(images=True)
    steps = torch.randn(windows.n_frames, size, generator=torch.Generator().manual_seed(0))
    mixed = steps.cumsum(0) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.1]])
    return windows.with_features({"camera": mixed.expand(views, -1, -1).clone()})


def noise_of_features(windows: WindowDataset, covariance: str) -> Tensor:
    options = TrainingConfig(obs_noise=0.0, feature_noise=0.2, obs_noise_covariance=covariance)
    obs = windows.gather_obs(torch.zeros(ROWS, dtype=torch.long))
    torch.manual_seed(0)
    noise = ObsNoise(options, windows)
    assert noise
    displaced = noise.displace(obs)
    assert torch.equal(displaced["pos"], obs["pos"])
    return (displaced["camera"] - obs["camera"]).double()


def test_noise_of_features_is_in_units_of_what_each_varies_by() -> None:
    windows = windows_with_features()
    noise = noise_of_features(windows, "identity").flatten(1)
    seen = windows.gather_obs(torch.arange(len(windows)))["camera"].flatten(1).double()
    expected = 0.04 * torch.diag(seen.var(0, correction=0))
    torch.testing.assert_close(
        covariance_of({"camera": noise}), expected, atol=0.02 * float(expected.max()), rtol=0
    )


def test_shaped_noise_of_features_has_their_covariance() -> None:
    windows = windows_with_features()
    noise = noise_of_features(windows, "data")
    expected = 0.04 * covariance_of(
        {"camera": windows.gather_obs(torch.arange(len(windows)))["camera"]}
    )
    torch.testing.assert_close(
        covariance_of({"camera": noise}), expected, atol=0.02 * float(expected.max()), rtol=0
    )


def test_noise_of_very_many_features_has_their_covariance_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    windows = windows_with_features()
    seen = windows.gather_obs(torch.arange(len(windows)))["camera"]
    monkeypatch.setattr(obs_noise, "WIDEST", seen[0].numel() - 1)
    monkeypatch.setattr(obs_noise, "MAX_NUMBERS", seen[0].numel() * (len(windows) // 2))
    noise = _Spread(windows, features=True).factor
    assert len(noise) == seen[0].numel() - 1
    # Of a few of the windows, centred by the mean of half of them.
    idx = torch.linspace(0, len(windows) - 1, len(windows) // 2, dtype=torch.float64).long()
    half = seen[idx].flatten(1).double()
    rows = (half - half.mean(0))[torch.linspace(0, len(half) - 1, len(noise)).long()]
    torch.testing.assert_close(noise.T @ noise, (rows.T @ rows / len(rows)).float())


def test_noise_of_features_is_not_for_images() -> None:
    windows = make_windows(images=True)
    obs = windows.gather_obs(torch.arange(5))
    noise = ObsNoise(TrainingConfig(obs_noise=0.0, feature_noise=0.5), windows)
    assert not noise
    assert all(torch.equal(value, obs[key]) for key, value in noise.displace(obs).items())
