"""Whether a training starts depends on the data, not on the seed of the split."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig, config_from_dict, config_to_dict, load_config
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.zarr.store import load_zarr
from lfm_policy.errors import InputError
from lfm_policy.policy import read_header
from lfm_policy.training import train
from lfm_policy.training.rows.data import load_datasets

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
WriteConfig = Callable[[ExperimentConfig, Path], str]

# Of episodes of 11, 14, 9, 16 and 12 steps, two give windows of 16 steps: 1 and 3.
LONG = {"policy.horizon": 16, "training.total_steps": 4}


@pytest.mark.parametrize("seed", range(12))
def test_every_split_has_something_on_both_sides(make_config: MakeConfig, seed: int) -> None:
    with pytest.warns(UserWarning, match="3 of 5 episodes are left out: .* fewer than the 14 step"):
        data = load_datasets(make_config({**LONG, "dataset.split_seed": seed}))
    assert sorted([*data.train_episodes, *data.validation_episodes]) == [1, 3]
    assert data.left_out_episodes.tolist() == [0, 2, 4]
    assert data.validation is not None and len(data.validation) > 0 and len(data.train) > 0


def test_a_training_on_one_episode_that_is_long_enough(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config({**LONG, "policy.horizon": 18})
    with pytest.warns(UserWarning, match=r"nothing is kept for validation.*validation_ratio=0"):
        checkpoint = train(config, tmp_path / "run", device="cpu", quiet=True)
    assert read_header(checkpoint).complete
    assert read_header(checkpoint).training["train_windows"] == 1


def test_the_count_is_said_before_training(
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_config(make_config(LONG), tmp_path / "config.yaml")
    assert main(["train", path, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    told = [line for line in printed.err.splitlines() if "episodes are left out" in line]
    assert len(told) == 1 and told[0].startswith("warning: ") and "Warning:" not in printed.err
    assert "1 training episodes (1 for validation, 3 left out as too short)" in (
        printed.out + printed.err
    )


def test_episodes_that_are_all_too_short(
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_config(make_config({"policy.horizon": 19}), tmp_path / "config.yaml")
    assert main(["train", path, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "horizon 19 is longer than every episode (the longest of 5 has 16 steps" in error
    assert "policy.horizon" in error and "Traceback" not in error


def test_a_dataset_of_another_format_says_what_reads_it(
    small_config: Path, small_zarr: Path, tmp_path: Path
) -> None:
    write_robomimic(tmp_path / "my file.hdf5", load_zarr(small_zarr, ["action", "pose"]))
    for path, name, found in (
        (tmp_path / "my file.hdf5", "zarr", "robomimic"),
        (small_zarr, "robomimic", "zarr"),
    ):
        dataset = {"dataset": {"name": name, "path": str(path), "obs_keys": ["pose"]}}
        config = config_from_dict({**config_to_dict(load_config(small_config)), **dataset}, "test")
        with pytest.raises(InputError) as caught:
            load_datasets(config)
        assert (
            f"; it looks like a dataset of the format {found}: give dataset.name={found} "
            "'dataset.obs_keys=[pose]', with the names that its observations have, or let "
            f"`lfm-policy init {shlex.quote(str(path))}` write a configuration for it"
        ) in str(caught.value)
    config = load_config(small_config, [f"dataset.path={tmp_path}", "dataset.obs_keys=[pose]"])
    with pytest.raises(InputError, match=r"name=several 'dataset\.each=\{obs_keys: \[pose\]\}'"):
        load_datasets(config)
    with pytest.raises(InputError, match="no such file or folder") as caught:
        load_datasets(load_config(small_config, ["dataset.path=nothing.hdf5"]))
    assert "looks like" not in str(caught.value)


@pytest.mark.parametrize("name", ["zarr", "robomimic", "lerobot"])
def test_demonstrations_that_are_not_there(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refusal(path: str) -> str:
        chosen = {"dataset": {"name": name, "path": path, "obs_keys": ["pose"]}}
        config = config_from_dict({**config_to_dict(load_config(small_config)), **chosen}, "test")
        with pytest.raises(InputError) as caught:
            load_datasets(config)
        return str(caught.value)

    monkeypatch.chdir(tmp_path)
    tried = tmp_path / "my data" / "mine"
    message = refusal("my data/mine")
    assert message.startswith("my data/mine: ") and "no such" in message
    assert message.endswith(f"tried {tried}: started in another folder? give dataset.path=...")
    assert refusal(str(tried)).endswith("; have they moved? give dataset.path=...")
