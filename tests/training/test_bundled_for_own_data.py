"""The bundled configurations for own data train on it, as their comments say to call them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from lfm_policy import load_policy
from lfm_policy.config import ExperimentConfig, load_config
from lfm_policy.data.dataset_config import WriteOptions
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError
from lfm_policy.training import train

LENGTHS = (18, 25, 21)
FEW_STEPS = [
    "training.total_steps=3",
    "training.encoder_steps=2",
    "training.encoder_views=1",
    "training.batch_size=4",
    "training.encoder_batch_size=4",
    "push_forward.solver=euler",
    "push_forward.n_steps=1",
    "training.num_threads=1",
]

WriteData = Callable[[str], Path]


@pytest.fixture
def write_data(tmp_path: Path) -> WriteData:
    """Return a function that writes an arm with a gripper and a camera in a format."""

    def write(name: str) -> Path:
        rng, n = np.random.default_rng(0), sum(LENGTHS)
        arrays = {
            "action": rng.uniform(-1, 1, (n, 8)).astype(np.float32),
            "joints": rng.normal(size=(n, 7)).astype(np.float32),
            "gripper": rng.uniform(0, 0.08, (n, 1)).astype(np.float32),
            "front": rng.integers(0, 255, (n, 24, 32, 3), np.uint8),
        }
        path = tmp_path / {"zarr": "my.zarr", "robomimic": "my.hdf5"}[name]
        buffer = ReplayBuffer(arrays, np.cumsum(LENGTHS))
        DATASET_FORMATS.get(name).write(path, buffer, WriteOptions())
        return path

    return write


@pytest.mark.parametrize("kind", ["zarr", "robomimic"])
@pytest.mark.parametrize(
    ("config", "keys", "encoder"),
    [
        ("own/state", ["joints", "gripper"], "block1"),
        ("own/cameras", ["front", "joints"], "joint"),
    ],
)
def test_they_train_on_own_data(
    write_data: WriteData, tmp_path: Path, config: str, keys: list[str], encoder: str, kind: str
) -> None:
    data = write_data(kind)
    overrides = [f"dataset.path={data}", f"dataset.obs_keys=[{','.join(keys)}]", *FEW_STEPS]
    options = load_config(config, overrides)
    assert options.dataset.name == kind
    assert options.training.encoder == encoder
    train(options, tmp_path / "run", device="cpu", quiet=True)
    policy = load_policy(tmp_path / "run")
    assert set(policy.spec.obs_shapes) == set(keys)
    assert (policy.nfe, policy.noise_scale, policy.model.n_blocks) == (16, 0.6, 3)
    assert policy.select_action(policy.fake_obs()).shape == (8,)


def test_the_comments_say_what_the_defaults_are() -> None:
    """What stands in own/state is there to be seen and changed, and is nothing but the recipe."""
    defaults = ExperimentConfig()
    state = load_config("own/state")
    assert (state.policy, state.network) == (defaults.policy, defaults.network)
    assert (state.training, state.distill) == (defaults.training, defaults.distill)
    cameras = load_config("own/cameras")
    assert cameras.training.encoder_steps == 30_000
    assert cameras.training.encoder_batch_size == defaults.training.encoder_batch_size


def test_a_file_of_ones_own_says_what_is_different(write_data: WriteData, tmp_path: Path) -> None:
    own = {"include": ["own/state"], "dataset": {"path": str(write_data("robomimic"))}}
    path = tmp_path / "my_robot.yaml"
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    assert load_config(str(path)).dataset.name == "robomimic"


def test_what_is_missing_is_said(write_data: WriteData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the dataset has no path: set dataset\.path"):
        train(load_config("own/state"), tmp_path / "run", device="cpu", quiet=True)
    options = load_config("own/state", [f"dataset.path={write_data('zarr')}"])
    with pytest.raises(
        InputError, match=r"holds: action, front, gripper, joints; .* dataset\.obs_keys=\[gripper\]"
    ):
        train(options, tmp_path / "run", device="cpu", quiet=True)
