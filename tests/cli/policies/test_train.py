"""``lfm-policy train``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lfm_policy import load_policy
from lfm_policy.cli import main as main_module
from lfm_policy.cli.policies import train as train_command
from lfm_policy.config import ExperimentConfig, load_config

pytestmark = pytest.mark.slow

Command = Callable[..., Any]


def test_trains(
    command: Command, small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", small_config, "name=mine", "training.total_steps=4", "--seed", 5)
    assert result.code == 0, result.err
    run = tmp_path / "runs" / "mine"
    assert "parameters: encoder 0, block 1" in result.out
    assert "gradient steps: 2 + 2 = 4, batch 8 x 1 on cpu" in result.out
    assert f"trained 4 steps in 0 s + 0 s push-forward: {Path('runs/mine')}" in result.out
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "latest"} <= {
        path.name for path in run.iterdir()
    }
    policy = load_policy(run)
    assert policy.config.seed == 5 and policy.config.training.total_steps == 4
    assert load_config(str(run / "config.yaml")) == policy.config


def test_json(command: Command, small_config: Path, tmp_path: Path) -> None:
    arguments = ["train", small_config, "training.total_steps=4", "--output", tmp_path / "run"]
    result = command(*arguments, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert Path(report["checkpoint"]).is_dir()
    assert report["training"]["complete"] is True
    assert report["training"]["steps"] == 4


@pytest.mark.parametrize(
    "order",
    [
        ["{config}", "{option}", "--resume"],
        ["{config}", "--resume", "{option}"],
        ["--resume", "{config}", "{option}"],
        ["{config}", "seed=3", "--resume", "{option}"],
    ],
)
def test_order_of_arguments(
    command: Command, small_config: Path, monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(main_module, "build_parser", _with_spy(main_module.build_parser, seen))
    texts = {"config": str(small_config), "option": "training.total_steps=4"}
    result = command("train", *[text.format(**texts) for text in order])
    assert result.code == 0, result.err
    (arguments,) = seen
    config, folder = train_command._what_to_train(arguments)
    assert arguments.resume is not None
    assert folder == Path("runs") / config.name
    assert config.training.total_steps == 4
    assert config.seed == (3 if "seed=3" in order else 0)


def _with_spy(build: Callable[[], Any], seen: list[Any]) -> Callable[[], Any]:
    """Return a parser whose commands only note their arguments."""

    def build_parser() -> Any:
        parser = build()
        parse = parser.parse_known_args

        def parse_known_args(arguments: Any) -> Any:
            parsed, extra = parse(arguments)
            parsed.run = lambda namespace: seen.append(namespace) or 0
            return parsed, extra

        parser.parse_known_args = parse_known_args
        return parser

    return build_parser


def test_resume_of_a_finished_run(command: Command, small_config: Path, tmp_path: Path) -> None:
    arguments = ["train", small_config, "--output", tmp_path / "run", "training.total_steps=4"]
    assert command(*arguments).code == 0
    result = command(*arguments)
    assert result.code == 2
    assert "there is a run already" in result.err and "--resume" in result.err
    result = command(*arguments, "--resume")
    assert result.code == 0 and "trained 4 steps" in result.out
    result = command(*arguments, "--resume", "seed=9")
    assert result.code == 2
    assert "cannot resume with other options: seed was 0, is now 9" in result.err


def test_show_config(command: Command, small_config: Path) -> None:
    result = command("train", small_config, "seed=7", "--show-config")
    assert result.code == 0
    shown = yaml.safe_load(result.out)
    assert shown["seed"] == 7 and shown["network"]["width"] == 16
    as_json = command("train", small_config, "--show-config", "--seed", "7", "--json")
    assert json.loads(as_json.out) == shown


def test_include_and_the_size_of_images_are_explained(command: Command, small_config: Path) -> None:
    explained = command("train", "--help").out
    assert "include: [own/state]" in explained
    assert "encoder.image.resize=[]" in explained and "encoder.image.crop" in explained
    listed = command("train", small_config, "--options").out
    assert listed.startswith("include: list[str] = []\n")
    assert "encoder.image.resize: list[int] | auto" in listed


def test_options(command: Command, small_config: Path) -> None:
    result = command("train", small_config, "--options", "all")
    assert result.code == 0
    assert "training.total_steps: int = 8\n    gradient steps of all blocks" in result.out
    assert "network.width: int = 16" in result.out
    assert result.out.count("\n    ") > 50
    assert all(section in result.out for section in vars(ExperimentConfig()))
    usual = command("train", small_config, "--options")
    assert usual.code == 0 and "network.width: int = 16" in usual.out
    assert "training.beta1" in result.out and "training.beta1" not in usual.out
    for arguments in (["network.width=24", "--options"], ["--options", "network.width=24"]):
        assert "network.width: int = 24" in command("train", small_config, *arguments).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pusht/fmm"], "error: no configuration 'pusht/fmm'"),
        (["pusht/fm", "traning.x=1"], "unknown key 'traning': did you mean 'training'?"),
        (["pusht/fm", "seed"], "expected key=value"),
        (["pusht/fm", "dataset.path="], "dataset.path: found None, expected str"),
        (["pusht/fm", "dataset.path=missing.zarr"], "missing.zarr"),
        (["{config}", "dataset.obs_keys=[poze]"], "there is no array data/poze: did you mean 'pos"),
        (["{config}", "policy.horizon=200"], "horizon"),
        (["{config}", "--device", "gpu"], "device 'gpu': expected auto, cpu, cuda"),
        (["{config}", "--device", "tpu:x"], "device 'tpu:x': expected auto, cpu, cuda"),
        (["{config}", "--output", "{config}"], "is a file, expected a folder or nothing"),
        (["{config}", "--output", "{folder}"], "mine: exists already and holds no run"),
    ],
)
def test_bad_input(
    command: Command,
    small_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    texts = {"config": str(small_config), "folder": str(tmp_path / "mine")}
    result = command("train", *[text.format(**texts) for text in arguments])
    assert result.code == 2
    assert result.err.startswith("error: ") and message in result.err
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_made(command: Command, small_config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = command("train", small_config, "--output", tmp_path / "file" / "run", "--quiet")
    assert result.code == 2
    assert result.err.startswith("error: [Errno 20] Not a directory")
