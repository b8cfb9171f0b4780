"""Windows of several datasets are those of one dataset after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex
from lfm_policy.training.rows.joined import JoinedWindows

KEYS = ("pos", "points")


class OnGpu(JoinedWindows):
    """Gathers as on a GPU, which is not asked how many rows are whose."""

    def _gather(
        self, idx: Tensor, gather: Callable[[WindowDataset, Tensor, Tensor], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        return self._gather_all(idx, gather)


def make_part(seed: int, lengths: list[int]) -> WindowDataset:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    arrays = {
        "action": rng.normal(size=(n, 3)),
        "pos": rng.normal(size=(n, 2)),
        "points": rng.normal(size=(n, 4, 2)),
    }
    index = WindowIndex(np.cumsum(lengths), 2, 5, 3)
    return WindowDataset(
        ReplayBuffer(arrays, np.cumsum(lengths)), Normalizer.fit(arrays), index, KEYS
    )


@settings(deadline=None, max_examples=30)
@given(
    parts=st.lists(st.lists(st.integers(5, 9), min_size=1, max_size=3), min_size=1, max_size=4),
    data=st.data(),
    kind=st.sampled_from([JoinedWindows, OnGpu]),
)
def test_rows_are_those_of_the_parts(
    kind: type[JoinedWindows], parts: list[list[int]], data: st.DataObject
) -> None:
    datasets = [make_part(seed, lengths) for seed, lengths in enumerate(parts)]
    joined = kind(datasets)
    assert len(joined) == sum(len(dataset) for dataset in datasets)
    expected = [(dataset, number) for dataset in datasets for number in range(len(dataset))]
    numbers = data.draw(st.lists(st.integers(0, len(joined) - 1), min_size=1, max_size=9))
    idx = torch.tensor(numbers)
    actions, obs = joined.gather_action(idx), joined.gather_obs(idx)
    assert tuple(obs) == KEYS
    for row, number in enumerate(numbers):
        dataset, own = expected[number]
        one = torch.tensor([own])
        assert torch.equal(actions[row], dataset.gather_action(one)[0])
        for key, values in dataset.gather_obs(one).items():
            assert torch.equal(obs[key][row], values[0])


@pytest.mark.parametrize("kind", [JoinedWindows, OnGpu])
def test_each_row_has_its_own_view(kind: type[JoinedWindows]) -> None:
    datasets = [make_part(seed, [6, 7]) for seed in range(2)]
    datasets = [
        dataset.with_features({"pos": torch.randn(3, dataset.n_frames, 8)}) for dataset in datasets
    ]
    joined = kind(datasets)
    assert joined.n_views == 3
    n = len(datasets[0])
    idx, views = torch.tensor([n + 2, 1, n + 2]), torch.tensor([2, 1, 0])
    found = joined.gather_obs(idx, views)["pos"]
    second = datasets[1].gather_obs(torch.tensor([2, 2]), torch.tensor([2, 0]))["pos"]
    first = datasets[0].gather_obs(torch.tensor([1]), torch.tensor([1]))["pos"]
    assert torch.equal(found, torch.stack([second[0], first[0], second[1]]))
