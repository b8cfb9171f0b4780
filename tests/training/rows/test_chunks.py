from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle, WindowDataset
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.rows.chunks import ChunkRows, encode_all

MakeConfig = Callable[..., ExperimentConfig]
LoadData = Callable[[ExperimentConfig], DatasetBundle]
MakeModel = Callable[[ExperimentConfig, DatasetBundle], PolicyModel]


@pytest.fixture
def windows(make_config: MakeConfig, load_data: LoadData) -> WindowDataset:
    return load_data(make_config()).train


def test_the_first_block_reads_the_demonstrations(windows: WindowDataset) -> None:
    source = ChunkRows(windows)
    idx = torch.tensor([5, 0, 5, 11])
    assert len(source) == len(windows)
    assert torch.equal(source.chunks(idx), windows.gather_action(idx))
    condition = source.condition(idx)
    assert isinstance(condition, dict)
    assert condition.keys() == {"position"}
    assert torch.equal(condition["position"], windows.gather_obs(idx)["position"])


def test_later_blocks_read_what_was_pushed_forward(windows: WindowDataset) -> None:
    pushed = torch.randn(len(windows), *windows.action_shape)
    source = ChunkRows(windows, pushed=pushed)
    idx = torch.tensor([3, 3, 0])
    assert torch.equal(source.chunks(idx), pushed[idx])


def test_encoded_observations_are_read_by_row(windows: WindowDataset) -> None:
    cond = torch.randn(len(windows), 7)
    condition = ChunkRows(windows, cond=cond).condition(torch.tensor([4, 1]))
    assert isinstance(condition, torch.Tensor)
    assert torch.equal(condition, cond[[4, 1]])


@pytest.mark.parametrize("n", [1, 2])
def test_the_parallel_mode_draws_from_the_exact_marginal(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel, n: int
) -> None:
    """X_n = exp(-T) X_0 + sqrt(1 - exp(-2 T)) Z with T = gamma_1 + ... + gamma_n."""
    sizes = [0.2, 0.5]
    config = make_config({"flow.n_blocks": 3, "flow.step_sizes": sizes})
    data = load_data(config)
    model = make_model(config, data)
    source = ChunkRows(data.train, marginal=model.schedule.marginal(n))
    total, n_draws = sum(sizes[:n]), 40_000
    torch.manual_seed(0)
    for window in (0, 20):
        idx = torch.tensor([window])
        draws = source.chunks(idx.expand(n_draws))
        mean = math.exp(-total) * data.train.gather_action(idx)[0]
        variance = 1 - math.exp(-2 * total)
        # 5 standard errors of the estimates
        assert (draws.mean(0) - mean).abs().max() < 5 * math.sqrt(variance / n_draws)
        covariance = torch.cov(draws.flatten(1).T)
        expected = variance * torch.eye(len(covariance))
        assert (covariance - expected).abs().max() < 5 * variance * math.sqrt(2 / n_draws)


def test_marginals_are_drawn_anew_from_the_global_generator(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel
) -> None:
    config = make_config()
    data = load_data(config)
    source = ChunkRows(data.train, marginal=make_model(config, data).schedule.marginal(1))
    idx = torch.arange(5)
    torch.manual_seed(1)
    first, second = source.chunks(idx), source.chunks(idx)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(source.chunks(idx), first)


@pytest.mark.parametrize("changes", [{"encoder.hidden": [5]}, {"encoder.hidden": [6, 3]}])
def test_an_encoder_with_weights_is_run_once_for_all(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel, changes: dict[str, Any]
) -> None:
    config = make_config(changes)
    data = load_data(config)
    model = make_model(config, data)
    cond = encode_all(model, data.train, batch_size=10)
    assert cond is not None
    assert not cond.requires_grad
    expected = model.encoder(data.train.gather_obs(torch.arange(len(data.train))))
    assert cond.shape == (len(data.train), changes["encoder.hidden"][-1])
    torch.testing.assert_close(cond, expected.detach())


def test_an_encoder_without_weights_costs_no_memory(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel
) -> None:
    config = make_config()
    data = load_data(config)
    assert encode_all(make_model(config, data), data.train, batch_size=10) is None
