"""Whether a training starts depends on the data, not on the seed of the split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
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
    with pytest.warns(UserWarning, match="left out"):
        assert main(["train", path, "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
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
