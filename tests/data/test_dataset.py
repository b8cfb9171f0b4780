"""Gathered batches against a per-sample reference, and the bundle that training takes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lfm_policy.data.dataset import WindowDataset, build_datasets
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex, shortest_episode
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.errors import InputError


def make_buffer(lengths: list[int], seed: int = 0) -> ReplayBuffer:
    rng = np.random.default_rng(seed)
    n_steps = sum(lengths)
    return ReplayBuffer(
        arrays={
            "action": rng.normal(5, 3, (n_steps, 3)).astype(np.float32),
            "pos": rng.normal(-2, 1, (n_steps, 2)),
            "points": rng.normal(0, 9, (n_steps, 4, 2)).astype(np.float32),
        },
        episode_ends=np.cumsum(lengths),
    )


def reference_sample(
    buffer: ReplayBuffer, number: int, n_obs_steps: int, horizon: int, n_action_steps: int
) -> dict[str, np.ndarray]:
    """Window ``number`` as Diffusion Policy's sampler cuts it, from the raw arrays."""
    for start, end in zip(buffer.episode_starts, buffer.episode_ends, strict=True):
        n_windows = end - start - horizon + n_action_steps - 1 + n_obs_steps
        if number < n_windows:
            first = start + number - (n_obs_steps - 1)
            steps = [min(max(first + k, start), end - 1) for k in range(horizon)]
            return {
                key: array[steps if key == "action" else steps[:n_obs_steps]]
                for key, array in buffer.arrays.items()
            }
        number -= max(n_windows, 0)
    raise IndexError(number)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    n_obs_steps=st.integers(1, 3),
    horizon=st.integers(1, 10),
    n_action_steps=st.integers(1, 10),
    data=st.data(),
)
def test_gather_equals_the_reference(
    lengths: list[int], n_obs_steps: int, horizon: int, n_action_steps: int, data: st.DataObject
) -> None:
    assume(n_action_steps <= horizon - n_obs_steps + 1)
    assume(max(lengths) >= shortest_episode(n_obs_steps, horizon, n_action_steps))
    buffer = make_buffer(lengths)
    normalizer = Normalizer.fit(buffer.arrays)
    index = WindowIndex(buffer.episode_ends, n_obs_steps, horizon, n_action_steps)
    dataset = WindowDataset(buffer, normalizer, index, ("points", "pos"))
    numbers = data.draw(st.lists(st.integers(0, len(dataset) - 1), min_size=1, max_size=6))
    idx = torch.tensor(numbers)
    batch = {"action": dataset.gather_action(idx), **dataset.gather_obs(idx)}
    assert list(batch) == ["action", "points", "pos"]
    for row, number in enumerate(numbers):
        sample = reference_sample(buffer, number, n_obs_steps, horizon, n_action_steps)
        for key, raw in sample.items():
            expected = normalizer.normalize(key, torch.from_numpy(raw))
            assert batch[key].dtype == torch.float32
            assert torch.equal(batch[key][row], expected)


def test_shapes_and_devices() -> None:
    buffer = make_buffer([30, 20])
    index = WindowIndex(buffer.episode_ends, 2, 8, 4)
    dataset = WindowDataset(buffer, Normalizer.fit(buffer.arrays), index, ("pos",))
    assert dataset.gather_action(torch.arange(1)).shape == (1, 8, 3)
    assert len(dataset) == len(index)
    assert dataset.device.type == "cpu"
    assert dataset.gather_action(torch.zeros(0, dtype=torch.int64)).shape == (0, 8, 3)
    moved = dataset.to("meta")
    assert moved.device.type == "meta" and dataset.device.type == "cpu"
    assert moved.gather_obs(torch.zeros(5, dtype=torch.int64, device="meta"))["pos"].shape == (
        5,
        2,
        2,
    )
    with pytest.raises(IndexError):
        dataset.gather_action(torch.tensor([len(dataset)]))


def test_foreign_byte_order_is_taken() -> None:
    buffer = make_buffer([20])
    swapped = ReplayBuffer(
        arrays={key: array.astype(">f4") for key, array in buffer.arrays.items()},
        episode_ends=buffer.episode_ends,
    )
    index = WindowIndex(buffer.episode_ends, 2, 8, 4)
    normalizer = Normalizer.fit(swapped.arrays)
    idx = torch.arange(len(index))
    one, two = (WindowDataset(b, normalizer, index, ("pos",)) for b in (buffer, swapped))
    assert torch.equal(one.gather_action(idx), two.gather_action(idx))


def test_a_key_without_statistics_is_an_error() -> None:
    buffer = make_buffer([20])
    normalizer = Normalizer.fit({"action": buffer.arrays["action"]})
    with pytest.raises(InputError, match="no statistics for 'pos'"):
        WindowDataset(buffer, normalizer, WindowIndex(buffer.episode_ends, 2, 8, 4), ("pos",))


@dataclass
class MemoryConfig(DatasetConfig):
    """A dataset that is in memory already."""

    lengths: list[int] = field(default_factory=lambda: [20, 25, 30, 18])
    outlier_episode: int | None = None

    def load(self, image_cache: Path | None = None, *, quiet: bool = True) -> ReplayBuffer:
        buffer = make_buffer(self.lengths)
        if self.outlier_episode is not None:
            buffer.arrays["pos"][buffer.steps_of(np.array([self.outlier_episode]))] = 1e4
        return buffer


def test_bundle_splits_by_episode() -> None:
    config = MemoryConfig(validation_ratio=0.3)
    bundle = build_datasets(config, n_obs_steps=2, horizon=8, n_action_steps=4)
    assert bundle.validation is not None
    assert len(bundle.validation_episodes) == 1
    assert bundle.obs_shapes == {"pos": (2,), "points": (4, 2)}
    assert bundle.action_dim == 3
    assert bundle.fingerprint == config.load().fingerprint()

    buffer = config.load()
    for dataset, episodes in (
        (bundle.train, bundle.train_episodes),
        (bundle.validation, bundle.validation_episodes),
    ):
        part = buffer.select_episodes(episodes)
        index = WindowIndex(part.episode_ends, 2, 8, 4)
        expected = WindowDataset(part, bundle.normalizer, index, tuple(bundle.obs_shapes))
        idx = torch.arange(len(expected))
        assert len(dataset) == len(expected)
        assert torch.equal(dataset.gather_action(idx), expected.gather_action(idx))
        for key, values in expected.gather_obs(idx).items():
            assert torch.equal(dataset.gather_obs(idx)[key], values)


def test_normaliser_sees_the_training_split_only() -> None:
    plain = build_datasets(MemoryConfig(validation_ratio=0.3), 2, 8, 4)
    held_out = int(plain.validation_episodes[0])
    config = MemoryConfig(validation_ratio=0.3, outlier_episode=held_out)
    bundle = build_datasets(config, 2, 8, 4)
    assert bundle.normalizer["pos"].max.max() < 100
    assert torch.equal(bundle.normalizer["pos"].scale, plain.normalizer["pos"].scale)
    assert bundle.fingerprint != plain.fingerprint
    train = config.load().select_episodes(bundle.train_episodes).arrays["action"]
    action = bundle.normalizer["action"]
    np.testing.assert_array_equal(action.raw("min").numpy(), train.min(0))
    np.testing.assert_array_equal(action.raw("max").numpy(), train.max(0))


def test_no_validation() -> None:
    bundle = build_datasets(MemoryConfig(validation_ratio=0), 2, 8, 4)
    assert bundle.validation is None
    assert bundle.train_episodes.tolist() == [0, 1, 2, 3]
    single = build_datasets(MemoryConfig(lengths=[20]), 2, 8, 4)
    assert single.validation is None


def test_normalization_modes_reach_the_data() -> None:
    bundle = build_datasets(
        MemoryConfig(validation_ratio=0), 2, 8, 4, {"default": "identity", "pos": "standard"}
    )
    assert (bundle.normalizer["action"].scale == 1).all()
    assert (bundle.normalizer["pos"].scale != 1).all()


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    n_obs_steps=st.integers(1, 3),
    horizon=st.integers(3, 32),
    n_action_steps=st.integers(1, 32),
    ratio=st.one_of(st.just(0.0), st.floats(0.01, 0.99)),
    seed=st.integers(0, 1000),
)
def test_training_starts_exactly_when_one_episode_is_usable(
    lengths: list[int],
    n_obs_steps: int,
    horizon: int,
    n_action_steps: int,
    ratio: float,
    seed: int,
) -> None:
    assume(n_action_steps <= horizon - n_obs_steps + 1)
    config = MemoryConfig(lengths=lengths, validation_ratio=ratio, split_seed=seed)
    shortest = shortest_episode(n_obs_steps, horizon, n_action_steps)
    usable = {episode for episode, length in enumerate(lengths) if length >= shortest}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not usable:
            with pytest.raises(InputError, match=f"horizon {horizon} is longer than every episode"):
                build_datasets(config, n_obs_steps, horizon, n_action_steps)
            return
        bundle = build_datasets(config, n_obs_steps, horizon, n_action_steps)
    train, validation = set(bundle.train_episodes), set(bundle.validation_episodes)
    assert train | validation == usable and not train & validation and train
    assert sorted(bundle.left_out_episodes) == sorted(set(range(len(lengths))) - usable)
    assert (len(validation) > 0) == (ratio > 0 and len(usable) > 1)
    assert (bundle.validation is not None) == bool(validation)
    assert len(bundle.train) > 0 and (bundle.validation is None or len(bundle.validation) > 0)
    said = " ".join(str(warning.message) for warning in caught)
    n_left_out = len(lengths) - len(usable)
    assert (f"{n_left_out} of {len(lengths)} episodes are left out" in said) == (n_left_out > 0)
    assert ("nothing is kept for validation" in said) == (ratio > 0 and len(usable) == 1)


@pytest.mark.parametrize("seed", range(40))
def test_every_seed_trains(seed: int) -> None:
    """40 episodes, most of them shorter than the horizon, one validation episode."""
    config = MemoryConfig(lengths=[*range(30, 69), 90], validation_ratio=0.02, split_seed=seed)
    bundle = build_datasets(config, 2, 64, 8)
    assert bundle.validation is not None and len(bundle.validation) > 0
    assert bundle.left_out_episodes.tolist() == list(range(26))  # of fewer than 56 steps
    assert len(bundle.train_episodes) == 13


def test_nothing_is_learned_from_episodes_that_are_left_out() -> None:
    config = MemoryConfig(lengths=[20, 3, 20], validation_ratio=0, outlier_episode=1)
    with pytest.warns(UserWarning, match=r"1 of 3 episodes are left out: .* fewer than the 4 step"):
        bundle = build_datasets(config, 2, 8, 4)
    assert bundle.normalizer["pos"].max.max() < 100


def test_horizon_longer_than_every_episode() -> None:
    config = MemoryConfig(lengths=[20, 15], validation_ratio=0)
    with pytest.raises(InputError, match=r"horizon 29 is longer than every episode .* 20 steps"):
        build_datasets(config, 2, 29, 8)
    few = MemoryConfig(lengths=[20, 15], max_episodes=2)
    with pytest.raises(InputError, match=r"\(with dataset.max_episodes 2\): horizon 29 is longer"):
        build_datasets(few, 2, 29, 8)
    # a split never leaves one side with episodes that are all too short
    bundle = build_datasets(MemoryConfig(lengths=[11, 11, 20], validation_ratio=0.34), 2, 18, 2)
    assert bundle.train_episodes.tolist() == [2] and bundle.validation is None


def test_human_demonstrations(pusht_zarr: Path) -> None:
    config = ZarrConfig(path=str(pusht_zarr), derive="pusht")
    bundle = build_datasets(config, n_obs_steps=2, horizon=16, n_action_steps=8)
    assert bundle.validation is not None
    assert len(bundle.train_episodes) == 202 and len(bundle.validation_episodes) == 4
    # L - 16 + 7 + 1 + 1 windows per episode of L steps
    assert len(bundle.train) + len(bundle.validation) == 25650 - 206 * 7
    idx = torch.arange(len(bundle.train))
    values = {"action": bundle.train.gather_action(idx), **bundle.train.gather_obs(idx)}
    for key, tensor in values.items():
        assert tensor.shape[0] == len(bundle.train)
        assert tensor.abs().max() <= 1 + 1e-5, key
