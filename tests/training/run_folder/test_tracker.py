"""Trackers: which package is spoken to, with what, and what happens when it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation import distill
from lfm_policy.errors import InputError, OptionError
from lfm_policy.training import train
from lfm_policy.training.run_folder.metrics import METRICS_FILE, MetricsLog, read_metrics

MakeConfig = Callable[..., ExperimentConfig]
StoppedAt = Callable[..., AbstractContextManager[None]]


class Service(ModuleType):
    """Stands for the packages wandb and trackio; a run is what ``init`` returns."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.config = self  # what has `update`
        self.finished = 0
        self.failing = False

    def init(self, **settings: Any) -> Service:
        print(f"{self.__name__}: hello")
        if self.failing:
            raise RuntimeError("not logged in\nsecond line")
        self.runs.append(settings)
        return self

    def update(self, values: dict[str, Any], **_: Any) -> None:
        self.runs[-1]["options"] = values

    def log(self, values: dict[str, float], step: int) -> None:
        if self.failing:
            raise ConnectionError("the service is gone")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture(params=["wandb", "trackio"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service(request.param)
    monkeypatch.setitem(sys.modules, request.param, made)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return made


def test_a_training_and_its_student_are_tracked(
    service: Service, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, run = service.__name__, tmp_path / "first"
    train(make_config({"training.tracker": name}), run, device="cpu", quiet=True)
    distill(run, nfe=1, device="cpu", quiet=True, overrides=["training.total_steps=10"])
    assert not capsys.readouterr().out  # where a command prints JSON
    teacher, student = service.runs
    assert service.finished == 2 and not (run / "tensorboard").exists()
    assert teacher["project"] == "lfm-policy" and teacher["name"].startswith("tiny-first")
    assert student["name"].startswith("tiny-nfe1-student-nfe1-regression")
    assert teacher["options"]["training"]["total_steps"] == 30
    assert student["options"]["distill"]["method"] == "regression"
    if name == "wandb":
        assert teacher["mode"] == "offline" and teacher["dir"] == str(run)
        assert teacher["id"] != student["id"]
    losses = [(step, v["train/loss"]) for step, v in service.logged if "train/loss" in v]
    written = [
        (record["step"], record["loss"])
        for folder in (run, run / "student-nfe1-regression")
        for record in read_metrics(folder / METRICS_FILE)
        if record["kind"] == "train"
    ]
    assert losses == written and len(losses) == 8


def test_a_resumed_run_is_the_same_run(
    service: Service, make_config: MakeConfig, stopped_at: StoppedAt, tmp_path: Path
) -> None:
    config = make_config({"training.tracker": service.__name__})
    with stopped_at(2, 3):
        train(config, tmp_path / "tiny", device="cpu", quiet=True)
    train(config, tmp_path / "tiny", device="cpu", quiet=True, resume=True)
    first, second = service.runs
    assert first == second and first["resume"] == "allow"


def test_wandb_is_online_when_somebody_says_so(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Service("wandb")
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.setenv("WANDB_MODE", "online")
    MetricsLog(tmp_path, tracker="wandb").close()
    assert made.runs[0]["mode"] == "online"


def test_a_service_that_fails_does_not_end_a_training(service: Service, tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, tracker=service.__name__)
    log.write("train", block=1, step=1, loss=0.5)
    service.failing = True
    with pytest.warns(UserWarning, match="ConnectionError: the service is gone"):
        log.write("train", block=1, step=2, loss=0.25)
    service.failing = False
    log.write("train", block=1, step=3, loss=0.125)
    log.close()
    assert service.logged == [(1, {"train/loss": 0.5})]
    assert [record["step"] for record in read_metrics(tmp_path / METRICS_FILE)] == [1, 2, 3]


def test_a_service_that_cannot_be_started_is_said(service: Service, tmp_path: Path) -> None:
    service.failing = True
    with pytest.raises(InputError, match=r"cannot be started \(RuntimeError: not logged in\)"):
        MetricsLog(tmp_path, tracker=service.__name__)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
@pytest.mark.parametrize("found", [None, ModuleType("a folder of earlier runs")])
def test_a_missing_package_is_said_before_anything_is_done(
    name: str,
    found: ModuleType | None,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, name, found)  # None: importing it fails
    config = make_config({"training.tracker": name, "dataset.path": "nowhere"})
    with pytest.raises(InputError, match=f"not installed: pip install {name}, or choose"):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_none_writes_the_metrics_alone(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, tracker="none")
    log.write("train", block=1, step=1, loss=0.5)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == [METRICS_FILE]


def test_an_unknown_tracker(make_config: MakeConfig) -> None:
    with pytest.raises((InputError, OptionError), match=r"tensorbord.*tensorboard"):
        make_config({"training.tracker": "tensorbord"})
