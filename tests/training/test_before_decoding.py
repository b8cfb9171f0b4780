"""What is wrong with options is known before hours of decoding, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig, config_from_dict, config_to_dict
from lfm_policy.data.images import cache as cache_module
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.evaluation.evaluation import SelectionRollouts
from lfm_policy.training import train
from lfm_policy.training.rows.data import load_datasets

MakeConfig = Callable[..., ExperimentConfig]

LENGTHS = (11, 9, 12)
CAMERAS = {"name": "cameras", "image": {"name": "compact", "width": 4, "keypoints": 3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same demonstrations in several formats."""
    rng = np.random.default_rng(0)
    steps = sum(LENGTHS)
    arrays = {
        "action": rng.normal(size=(steps, 2)).clip(-1, 1),
        "hand": rng.normal(size=(steps, 3)),
        "goal": rng.normal(size=(steps, 2)),
        "top": rng.integers(0, 255, (steps, 30, 40, 3), np.uint8),
        "wrist": rng.integers(0, 255, (steps, 20, 24, 3), np.uint8),
    }
    folder = tmp_path_factory.mktemp("formats")
    buffer = ReplayBuffer(arrays, np.cumsum(LENGTHS))
    write_zarr(folder / "cameras.zarr", buffer)
    write_robomimic(folder / "cameras.hdf5", buffer)
    (folder / "both").mkdir()
    for name in ("a", "b"):
        write_zarr(folder / "both" / f"{name}.zarr", buffer)
    return folder


def configured(
    make_config: MakeConfig, folder: Path, name: str, changes: dict[str, Any]
) -> ExperimentConfig:
    """Return a configuration that reads a format, with changes ``{"section.key": value}``."""
    path = {"zarr": "cameras.zarr", "robomimic": "cameras.hdf5", "several": "both"}[name]
    keys = {"obs_keys": ["hand", "top", "wrist"]}
    dataset = {"name": name, "path": str(folder / path), "validation_ratio": 0.3}
    options = config_to_dict(make_config())
    options["dataset"] = dataset | ({"each": keys} if name == "several" else keys)
    options["encoder"] = CAMERAS
    for key, value in changes.items():
        section, _, option = key.partition(".")
        options[section] = options[section] | {option: value} if option else value
    return config_from_dict(options, "test")


@pytest.fixture
def never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*arguments: object, **options: object) -> None:
        raise AssertionError("frames were decoded")

    monkeypatch.setattr(cache_module.CachedImages, "_write", decode)


LEARNING = {"training.encoder": "joint", "training.encoder_steps": 5}
MISTAKES = [
    ({"encoder": {"name": "state"}}, "the 'state' encoder takes at most 2 dimensions per frame"),
    ({"normalization.keys": {"hnad": "quantiles"}}, "names 'hnad'.*did you mean 'hand'"),
    ({"encoder.cameras": {"wrst": {"crop": []}}}, "names 'wrst'.*did you mean 'wrist'"),
    ({"encoder.image": {"name": "compact", "crop": [500, 500]}}, "crop"),
    ({"policy.horizon": 200}, "horizon 200 is longer than every episode"),
    ({"auxiliary.keys": ["foo"]}, "auxiliary.keys.*foo"),
    ({"auxiliary.keys": ["top"], "dataset.obs_keys": ["hand", "wrist"]}, "'top' are images"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
@pytest.mark.parametrize("name", ["zarr", "robomimic"])
@pytest.mark.usefixtures("never_decoded")
def test_a_mistake_is_known_before_decoding(
    make_config: MakeConfig,
    folder: Path,
    tmp_path: Path,
    name: str,
    mistake: dict[str, Any],
    message: str,
) -> None:
    config = configured(make_config, folder, name, LEARNING | mistake)
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("never_decoded")
def test_of_several_files_too(make_config: MakeConfig, folder: Path, tmp_path: Path) -> None:
    config = configured(make_config, folder, "several", {"policy.horizon": 200})
    with pytest.raises(InputError, match="horizon 200 is longer than every episode .* of 6"):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    assert not list(tmp_path.iterdir())


def test_without_an_environment_nothing_is_read(
    make_config: MakeConfig, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(make_config, folder, "zarr", {"eval.every": 3})
    monkeypatch.setattr(type(config.dataset), "load", None)
    with pytest.raises(InputError, match="eval.every is 3, but there is no environment"):
        train(config, tmp_path / "run", rollouts=SelectionRollouts(), quiet=True)


@pytest.mark.parametrize("name", ["zarr", "several"])
def test_what_is_right_is_decoded(
    make_config: MakeConfig, folder: Path, tmp_path: Path, name: str
) -> None:
    config = configured(make_config, folder, name, {})
    torch.manual_seed(1)
    first = load_datasets(config, tmp_path, for_training=True)
    drawn = torch.rand(2)
    assert first.fingerprint and len(list(tmp_path.iterdir()))
    assert first.train.frames("top", 0, 3).float().mean() > 100
    torch.manual_seed(1)
    again = load_datasets(config, tmp_path)  # from the cache, so nothing is tried
    assert torch.equal(torch.rand(2), drawn) and again.fingerprint == first.fingerprint
