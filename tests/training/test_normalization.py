"""Modes of normalisation, for all keys or single ones, from the configuration to the policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig, load_config
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy
from lfm_policy.training import train
from lfm_policy.training.rows.data import load_datasets

MakeConfig = Callable[..., ExperimentConfig]

LENGTHS = (60, 70, 70)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.uniform(-1, 1, (sum(LENGTHS), 2)),
        "position": rng.normal(size=(sum(LENGTHS), 3)),
        "force": rng.normal(size=(sum(LENGTHS), 1)),
    }
    arrays["action"][100, 0], arrays["force"][50] = 40, -900
    return arrays


@pytest.fixture(scope="module")
def store(arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outliers") / "demo.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(LENGTHS)))
    return path


def test_single_keys_have_their_own_mode(
    make_config: MakeConfig, store: Path, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    config = make_config(
        {
            "dataset.path": str(store),
            "dataset.obs_keys": ["position", "force"],
            "dataset.validation_ratio": 0.0,
            "normalization.action": "quantiles",
            "normalization.keys": {"force": "quantiles"},
            "training.total_steps": 2,
            "push_forward.solver": "euler",
        }
    )
    train(config, tmp_path / "run", device="cpu", quiet=True)
    policy = load_policy(tmp_path / "run")
    modes = {"action": "quantiles", "force": "quantiles", "position": "limits"}
    for key, mode in modes.items():
        expected = Normalizer.fit({key: arrays[key]}, mode)[key]
        assert torch.equal(policy.normalizer[key].scale, expected.scale)
        assert torch.equal(policy.normalizer[key].offset, expected.offset)
    # Far beyond the quantiles, actions are still clipped to what was demonstrated.
    obs = {key: np.zeros((2, 2, arrays[key].shape[1])) for key in ("position", "force")}
    noise = torch.full((2, *policy.chunk_shape), 1e5)
    noise[1] *= -1
    chunk = policy.sample(obs, noise=noise).chunk
    extremes = np.stack([arrays["action"].min(0), arrays["action"].max(0)]).astype(np.float32)
    for found, expected in zip(np.sort(chunk[:, 0].numpy(), axis=0), extremes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "normalization.keys={force: quantile}",
            "keys.force is 'quantile', expected one of",
        ),
        ("normalization.keys.default=standard", "normalization.keys names 'default'"),
        ("normalization.keys=quantiles", "normalization.keys: found 'quantiles', expected keys"),
    ],
)
def test_mistakes_in_the_configuration(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config("pusht/fm", [override])


def test_a_key_that_is_not_there(make_config: MakeConfig) -> None:
    config = make_config({"normalization.keys": {"positions": "standard"}})
    with pytest.raises(InputError, match=r"keys names 'positions', .*did you mean 'position'"):
        load_datasets(config)
