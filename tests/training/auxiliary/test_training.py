"""Trainings whose encoder learns to tell targets: what is kept of them, and what is not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lfm_policy
from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation import distill
from lfm_policy.errors import InputError
from lfm_policy.inspection.checkpoint import inspect_checkpoint
from lfm_policy.policy import load_policy, read_header
from lfm_policy.policy.checkpoint import TRAIN_STATE
from lfm_policy.sharing.card import model_card
from lfm_policy.sharing.front_matter import CardOptions
from lfm_policy.sharing.reports import Measured
from lfm_policy.training import BlockPlan, Run, train, train_parts
from lfm_policy.training.auxiliary.targets import read_targets
from lfm_policy.training.estimate.training import DataFacts, estimate_training
from lfm_policy.training.rows.data import load_datasets
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.run_folder.state import read_train_state
from lfm_policy.training.start.source import tuned_config

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
Weights = Callable[[Path], dict[str, Tensor]]
AssertSame = Callable[[Path, Path], None]
StoppedAt = Callable[..., AbstractContextManager[None]]

MODES: dict[str, dict[str, Any]] = {
    "joint": {"training.encoder": "joint", "training.encoder_steps": 10},
    "block1": {},
}
TOLD = {"auxiliary.keys": ["goal"], "auxiliary.hidden": [8]}
MESSAGE = "its encoder was also trained on: goal"


def options(mode: str = "joint", **changes: Any) -> dict[str, Any]:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    steps = {"training.total_steps": 12, "encoder.hidden": [6]}
    return steps | MODES[mode] | TOLD | changes


def done(config: ExperimentConfig, folder: Path, **how: Any) -> Path:
    train(config, folder, device="cpu", quiet=True, **how)
    return folder


@pytest.fixture(scope="module")
def runs(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that trains a mode once, with targets or without."""
    root = tmp_path_factory.mktemp("runs")

    def run(mode: str = "joint", *, told: bool = True) -> Path:
        folder = root / f"{mode}-{told}"
        if not folder.exists():
            changes = options(mode) if told else options(mode, auxiliary__keys=[])
            done(make_config(changes, checkpoints=True), folder)
        return folder

    return run


# -- what it changes -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_without_weight_everything_is_as_before(
    make_config: MakeConfig,
    runs: Callable[..., Path],
    assert_same_weights: AssertSame,
    tmp_path: Path,
    mode: str,
) -> None:
    config = make_config(options(mode, auxiliary__weight=0.0), checkpoints=True)
    found, expected = done(config, tmp_path / "run"), runs(mode, told=False)
    assert_same_weights(found, expected)
    timed = ("time", "steps_per_second", "seconds")
    logs = [
        [
            {k: v for k, v in r.items() if k not in timed}
            for r in read_metrics(folder / METRICS_FILE)
        ]
        for folder in (found, expected)
    ]
    logs = [[r for r in log if r["kind"] != "estimate"] for log in logs]
    assert logs[0] == logs[1] and len(logs[0]) > 10
    assert read_header(found).also_trained_on == []


@pytest.mark.parametrize("mode", MODES)
def test_an_encoder_is_another_and_no_policy_has_a_head(
    runs: Callable[..., Path], weights: Weights, mode: str
) -> None:
    with_targets, without = weights(runs(mode)), weights(runs(mode, told=False))
    shapes = [{name: x.shape for name, x in part.items()} for part in (with_targets, without)]
    assert shapes[0] == shapes[1]
    encoder = [name for name in without if name.startswith("encoder.")]
    assert encoder and not any(torch.equal(with_targets[k], without[k]) for k in encoder)
    policy = load_policy(runs(mode))
    assert not any("auxiliary" in name for name in policy.model.state_dict())
    assert policy.select_action({"position": np.zeros(3, np.float32)}).shape == (2,)
    assert set(policy.pipeline.normalizer.keys()) == {"action", "position"}


def test_only_what_trains_the_encoder_has_a_head(runs: Callable[..., Path]) -> None:
    found = {}
    for folder in (runs() / "checkpoints").iterdir():
        if (folder / TRAIN_STATE).exists():
            _, block, _ = read_train_state(folder / TRAIN_STATE)
            part = folder.name.partition("-")[0]
            found[part] = sorted(name for name in block if name.startswith("online/auxiliary."))
    heads = [f"online/auxiliary.{n}.{kind}" for n in (0, 2) for kind in ("bias", "weight")]
    assert found == {"block0": heads, "block1": [], "block2": []}


def test_it_learns_what_an_encoder_can_tell(make_config: MakeConfig, tmp_path: Path) -> None:
    # The goal is a linear function of what is observed.
    changes = {
        "training__encoder_steps": 400,
        "training__log_every": 100,
        "training__validation_every": 400,
        "training__learning_rate": 1e-2,
        "auxiliary__weight": 1.0,
    }
    run = done(make_config(options(**changes, encoder__hidden=[16])), tmp_path / "run")
    records = [r for r in read_metrics(run / METRICS_FILE) if "auxiliary_loss" in r]
    assert {r["block"] for r in records} == {0}  # later parts do not touch the encoder
    train_records = [r for r in records if r["kind"] == "train"]
    assert len(train_records) == 4
    first, last = train_records[0], train_records[-1]
    assert last["auxiliary_unexplained_goal"] < 0.1 < first["auxiliary_unexplained_goal"]
    (held_out,) = (r for r in records if r["kind"] == "validation")
    assert held_out["auxiliary_rmse_goal"] < 0.6 * first["auxiliary_rmse_goal"]
    assert held_out.keys() >= {"loss", "auxiliary_loss", "auxiliary_unexplained_goal"}


# -- what is said of it --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_is_marked(
    runs: Callable[..., Path], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    header = read_header(runs(mode))
    assert header.also_trained_on == ["goal"]
    assert load_policy(runs(mode)).info["also_trained_on"] == ["goal"]
    inspect_checkpoint(runs(mode)).print()
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(
        f"{MESSAGE} \\(held-out episodes: goal off by [\\d.]+, \\d+% of its variance untold", text
    )
    card = model_card(header, Measured(), CardOptions("someone/arm"))
    assert "its encoder was also trained on: `goal`" in card
    other = read_header(runs(mode, told=False))
    assert other.also_trained_on == [] and "also_trained_on" not in other.training
    assert "also trained on" not in model_card(other, Measured(), CardOptions("someone/arm"))


def test_a_training_says_what_it_tells_and_in_which_unit(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_config(options()), tmp_path / "run", device="cpu")
    text = capsys.readouterr().out
    assert "the encoder also learns to tell goal (2,), spread " in text


# -- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "n", "step"), [("joint", 0, 4), ("joint", 1, 2), ("block1", 1, 3), ("block1", 2, 3)]
)
def test_resumes_to_the_same_weights(
    make_config: MakeConfig,
    runs: Callable[..., Path],
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    tmp_path: Path,
    mode: str,
    n: int,
    step: int,
) -> None:
    config, folder = make_config(options(mode)), tmp_path / "run"
    with stopped_at(n, step):
        done(config, folder)
    done(config, folder, resume=True)
    assert_same_weights(folder, runs(mode))
    assert read_header(folder).also_trained_on == ["goal"]


def test_more_steps_are_the_same_interrupted_or_not(
    make_config: MakeConfig,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    tmp_path: Path,
) -> None:
    config, folder = make_config(options()), tmp_path / "run"
    more = make_config(options(training__encoder_steps=14, training__total_steps=16))
    done(config, folder)
    before = load_policy(folder).model.encoder.state_dict()
    with stopped_at(0, 2):
        done(more, folder, resume=True)
    done(more, folder, resume=True)
    passes = {"training.extended_from": [12], "training.encoder_extended_from": [10]}
    at_once = make_config(options(training__encoder_steps=14, training__total_steps=16) | passes)
    assert_same_weights(folder, done(at_once, tmp_path / "at-once"))
    after = load_policy(folder).model.encoder.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_it_goes_on_with_the_same_numbers_only(
    make_config: MakeConfig, runs: Callable[..., Path], tmp_path: Path
) -> None:
    folder = done(make_config(options()), tmp_path / "run")
    with pytest.raises(InputError, match=r"auxiliary.weight was 1.0, is now 0.2"):
        done(make_config(options(auxiliary__weight=0.2)), folder, resume=True)
    header = read_header(folder)
    changed = dataclasses.replace(
        header, training=header.training | {"auxiliary_fingerprint": "other"}
    )
    config = make_config(options())
    data = load_datasets(config)
    assert read_targets(config, data, header) is not None
    with pytest.raises(InputError, match="was trained on other numbers of these"):
        read_targets(config, data, changed)


# -- what comes of it ----------------------------------------------------------------------------


def test_a_student_is_marked_and_learns_without(
    runs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["distill.samples=1", "distill.teacher_steps=1", "training.total_steps=3"]
    how: dict[str, Any] = {"nfe": 1, "device": "cpu", "quiet": True}
    found = distill(runs(), tmp_path / "student", overrides=overrides, **how)
    header = read_header(found)
    assert header.also_trained_on == ["goal"] and header.config.auxiliary.keys == []
    inspect_checkpoint(found).print()
    assert "its encoder or its teacher's was also trained on: goal\n" in capsys.readouterr().out
    with pytest.raises(InputError, match="the encoder of a student is its teacher's"):
        distill(runs(), tmp_path / "no", overrides=["auxiliary.keys=[goal]"], **how)


def test_a_training_that_starts_from_it_is_marked_and_needs_no_targets(
    make_config: MakeConfig, runs: Callable[..., Path], tmp_path: Path
) -> None:
    source = read_header(runs())
    config = tuned_config(source)
    assert config.auxiliary.keys == []  # other data need not have them
    found = read_header(done(config, tmp_path / "plain", init_from=source.folder))
    assert found.also_trained_on == ["goal"] and "auxiliary_fingerprint" not in found.training
    again = tuned_config(source, ["auxiliary.keys=[goal]", "training.checkpoint_every=1"])
    folder = done(again, tmp_path / "told", init_from=source.folder)
    assert "auxiliary_fingerprint" in read_header(folder).training
    # A run is continued without its source, and keeps the mark.
    more = tuned_config(source, ["training.total_steps=20"])
    done(more, tmp_path / "plain", resume=True)
    assert read_header(tmp_path / "plain").also_trained_on == ["goal"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"encoder__hidden": []}, "the encoder 'state' has nothing to train"),
        ({"init__encoder": "freeze"}, r"the encoder stays as it is \(init.encoder is 'freeze'\)"),
    ],
)
def test_an_encoder_that_does_not_learn_is_refused(
    make_config: MakeConfig,
    runs: Callable[..., Path],
    tmp_path: Path,
    changes: dict[str, Any],
    why: str,
) -> None:
    config = make_config(options("block1", **changes))
    source = runs("block1") if "init__encoder" in changes else None
    with pytest.raises(InputError, match=why):
        done(config, tmp_path / "run", init_from=source)
    assert not (tmp_path / "run").exists()


# -- around it -----------------------------------------------------------------------------------


def test_an_estimate_changes_nothing(
    make_config: MakeConfig,
    runs: Callable[..., Path],
    assert_same_weights: AssertSame,
    tmp_path: Path,
) -> None:
    run = Run(make_config(options(), checkpoints=True), tmp_path / "run", device="cpu", quiet=True)
    train_parts(run, BlockPlan(run))  # without an estimate, which all others have
    assert_same_weights(tmp_path / "run", runs())


def test_a_configuration_is_estimated_without_data(make_config: MakeConfig) -> None:
    facts = DataFacts({"position": (3,)}, 2, np.array([20, 30]))
    estimate = estimate_training(make_config(options()), facts, device="cpu")
    assert estimate.seconds > 0


def test_from_memory_all_but_the_targets_is_observed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    obs = {"joints": rng.normal(size=(12, 3)), "cube": rng.normal(size=(12, 2))}
    episodes = [{"obs": obs, "action": rng.normal(size=(12, 2))} for _ in range(3)]
    policy = lfm_policy.train(
        "own/state",
        episodes,
        output=tmp_path / "run",
        device="cpu",
        quiet=True,
        encoder={"hidden": [8]},
        auxiliary={"keys": ["cube"]},
        training={"total_steps": 4, "encoder_steps": 2, "batch_size": 4, "num_threads": 1},
    )
    assert policy.model.encoder.obs_keys == ("joints",)
    assert policy.info["also_trained_on"] == ["cube"]
