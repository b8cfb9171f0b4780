"""Runs that go on with more steps than they were begun with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from lfm_policy.checkpoint_folders import CHECKPOINTS
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy, read_header
from lfm_policy.training import train
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.run_folder.resume import CONFIG_COPY
from lfm_policy.training.steps import Pass, passes_of
from lfm_policy.training.trainer import Trainer

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]
BeforeStep = Callable[[int, int, Callable[[], None]], None]
StoppedAt = Callable[..., AbstractContextManager[None]]

MORE = {"training.total_steps": 40}
"""5 steps more for each of two blocks of 15."""


@pytest.fixture(scope="module")
def extended(
    trained: Path, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the tiny experiment, continued with more steps once it was complete."""
    folder = tmp_path_factory.mktemp("extended") / "run"
    shutil.copytree(trained / CHECKPOINTS / "final", folder / CHECKPOINTS / "final")
    for name in ("latest", CONFIG_COPY, METRICS_FILE):
        shutil.copy(trained / name, folder / name)
    found = train(make_config(MORE), folder, device="cpu", resume=True, quiet=True)
    assert found == folder / CHECKPOINTS / "final-40"
    return folder


def test_the_earlier_policy_stays(
    extended: Path, trained: Path, assert_same_weights: AssertSame
) -> None:
    final = extended / CHECKPOINTS / "final"
    assert sorted(p.name for p in final.parent.iterdir()) == ["final", "final-40"]
    assert_same_weights(final, trained)
    with pytest.raises(AssertionError):
        assert_same_weights(extended, trained)
    header = read_header(extended)
    assert header.complete and header.training["block_steps"] == [20, 20]
    assert header.config.training.extended_from == [30]
    load_policy(final), load_policy(extended)


def test_the_log_goes_on(extended: Path) -> None:
    records = read_metrics(extended / METRICS_FILE)
    steps = [(r["block"], r["step"]) for r in records if r["kind"] == "train"]
    assert steps == [
        *[(1, s) for s in (5, 10, 15)],
        *[(2, s) for s in (20, 25, 30)],
        (1, 35),
        (2, 40),
    ]
    assert [r["block"] for r in records if r["kind"] == "push_forward"] == [1, 1]
    # The rate has fallen to nothing, rises again and falls again.
    rates = [r["learning_rate"] for r in records if r["kind"] == "train"]
    assert rates[2] == rates[5] == rates[6] == 0 < rates[1]


def test_blocks_go_on_from_their_own_weights(
    trained: Path, make_config: MakeConfig, weights: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    before: dict[int, list[Tensor]] = {}
    train_step = Trainer.train_step

    def watched(trainer: Trainer) -> Any:
        if trainer.step == 0:
            before[trainer.n] = [p.detach().clone() for p in trainer.loss.network.parameters()]
        return train_step(trainer)

    monkeypatch.setattr(Trainer, "train_step", watched)
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    train(make_config(MORE), folder, device="cpu", resume=True, quiet=True)
    kept = weights(trained)
    for n in (1, 2):
        own = [x for name, x in kept.items() if name.startswith(f"blocks.{n - 1}.")]
        assert sorted(x.sum().item() for x in own) == sorted(x.sum().item() for x in before[n])


@pytest.mark.parametrize("latest", ["block1-train-000000008", "block2-train-000000023"])
def test_a_run_that_is_not_complete_is_finished_first(
    extended: Path,
    trained: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    latest: str,
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    for later in (p for p in (folder / CHECKPOINTS).iterdir() if p.name != latest):
        shutil.rmtree(later)
    (folder / "latest").write_text(latest + "\n")
    train(make_config(MORE), folder, device="cpu", resume=True, quiet=True)
    assert_same_weights(folder, extended)


def test_the_options_of_a_run_give_its_weights(
    extended: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    passes = {"training.extended_from": [30], "training.encoder_extended_from": [0]}
    train(make_config({**MORE, **passes}), tmp_path / "run", device="cpu", quiet=True)
    assert_same_weights(tmp_path / "run", extended)


@pytest.mark.parametrize(("n", "step"), [(1, 0), (1, 3), (2, 0), (2, 4)])
def test_an_interrupted_extension_goes_on(
    extended: Path,
    trained: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    n: int,
    step: int,
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    with stopped_at(n, step):
        train(make_config(MORE), folder, device="cpu", resume=True, quiet=True)
    done = 30 + (n - 1) * 5 + step + 1
    assert read_header(folder).folder.name == f"pass2-block{n}-train-{done:09d}"
    load_policy(folder)  # all blocks have learnt
    # The options in the folder say what it was continued with.
    assert main(["train", "--resume", str(folder), "--quiet", "--device", "cpu"]) == 0
    assert_same_weights(folder, extended)


def test_one_that_was_killed_at_once_goes_on(
    extended: Path,
    trained: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    before_step: BeforeStep,
    monkeypatch: pytest.MonkeyPatch,
    assert_same_weights: AssertSame,
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))

    def killed() -> None:
        raise MemoryError

    before_step(1, 2, killed)
    with pytest.raises(MemoryError):
        train(make_config(MORE), folder, device="cpu", resume=True, quiet=True)
    monkeypatch.undo()
    assert read_header(folder).folder.name == "final"
    assert main(["train", "--resume", str(folder), "--quiet", "--device", "cpu"]) == 0
    assert_same_weights(folder, extended)


def test_what_is_refused(
    extended: Path, trained: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(extended, tmp_path / "run"))

    def resumed(changes: dict[str, Any]) -> None:
        train(make_config(changes), folder, device="cpu", resume=True, quiet=True)

    with pytest.raises(InputError, match="training.total_steps was 40, is now 30"):
        resumed({})
    with pytest.raises(InputError, match="seed was 3, is now 4"):
        resumed({"training.total_steps": 50, "seed": 4})
    with pytest.raises(InputError, match=r"gives block 1 no step of the 1 of training.total_steps"):
        resumed({"training.total_steps": 41})
    passes = {"training.extended_from": [20], "training.encoder_extended_from": [0]}
    with pytest.raises(InputError, match=r"extended_from was \[30\], is now \[20\]"):
        resumed({**MORE, **passes})
    assert read_header(folder).folder.name == "final-40"
    resumed(MORE)  # nothing is left to do
    with pytest.raises(InputError, match="extended_from.*expected more steps in every pass"):
        make_config({**passes, "training.total_steps": 10})


def test_encoder_and_blocks_get_more_together(
    make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    joint = {"encoder.hidden": [6], "training.encoder": "joint", "training.encoder_steps": 5}
    train(make_config(joint), tmp_path / "run", device="cpu", quiet=True)
    first = load_policy(tmp_path / "run").pipeline.model.encoder.state_dict()
    # Without steps for the encoder it stays as it is.
    train(make_config({**joint, **MORE}), tmp_path / "run", device="cpu", resume=True, quiet=True)
    second = load_policy(tmp_path / "run").pipeline.model.encoder.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    more = {**joint, **MORE, "training.encoder_steps": 9}
    config = make_config(more)
    train(config, tmp_path / "run", device="cpu", resume=True, quiet=True)
    header = read_header(tmp_path / "run")
    assert header.folder.name == "final-49"
    assert (header.training["encoder_steps"], header.training["block_steps"]) == (9, [20, 20])
    third = load_policy(tmp_path / "run").pipeline.model.encoder.state_dict()
    assert not all(torch.equal(first[key], third[key]) for key in first)
    assert passes_of(header.config) == [Pass(5, [15, 15]), Pass(0, [5, 5]), Pass(4, [0, 0])]
    train(header.config, tmp_path / "again", device="cpu", quiet=True)
    assert_same_weights(tmp_path / "again", tmp_path / "run")


def test_in_processes(
    make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame, workers: list[int]
) -> None:
    parallel = {
        "training.block_training": "parallel",
        "training.warm_start": False,
        "encoder.hidden": [6],
    }
    for name, processes in (("one", 1), ("two", 2)):
        options = {**parallel, "training.parallel_processes": processes}
        for changes in ({}, MORE):
            config = make_config({**options, **changes})
            train(config, tmp_path / name, device="cpu", resume=bool(changes), quiet=True)
        assert read_header(tmp_path / name).folder.name == "final-40"
    assert workers == 2 * [1, 2]
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_the_command_says_what_is_to_be_done(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    command = ["train", "--resume", str(folder), "--device", "cpu"]
    assert main([*command, "training.total_steps=40"]) == 0
    out = capsys.readouterr().out
    assert "gradient steps: 15 + 15 = 30, then 5 + 5 = 10 (pass 2 of 2: " in out
    assert "with a fresh optimiser, a new warm-up and a new cosine" in out
    assert yaml.safe_load((folder / CONFIG_COPY).read_text())["training"]["extended_from"] == [30]
    assert main(command) == 0
    assert "trained 40 steps" in capsys.readouterr().out
    assert main([*command, "--output", str(tmp_path)]) == 2
    assert "leave out --output" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder / CHECKPOINTS / "final")]) == 2
    assert f"this is a checkpoint of the run {folder}" in capsys.readouterr().err
    for arguments, message in (([], "which configuration?"), (["--resume"], "which run?")):
        assert main(["train", *arguments]) == 2
        assert message in capsys.readouterr().err
