"""Runs that were stopped in every way there is and go on to the very same weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.checkpoint_folders import CHECKPOINTS, LATEST_FILE
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import FlowChain
from lfm_policy.policy import read_header
from lfm_policy.policy.checkpoint import TRAIN_STATE
from lfm_policy.training import Interrupted, train
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.run_folder.resume import changed_options

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]
BeforeStep = Callable[[int, int, Callable[[], None]], None]
WriteConfig = Callable[[ExperimentConfig, Path], str]

SCRIPT = Path(__file__).with_name("killed_runs.py")

KILLED_AT = {
    "before the first checkpoint": None,
    "in block 1": "block1-train-000000008",
    "in the last batch of the push-forward": "block1-push_forward-000000032",
    "in the push-forward of the validation set": "block1-push_forward-000000032",
    "in block 2 before its first checkpoint": "block1-push_forward-000000032",
    "in block 2": "block2-train-000000023",
    "while a checkpoint is written": "block2-train-000000019",
    "between a checkpoint and its name": "block2-train-000000019",
    "between a checkpoint and the log": "block2-train-000000023",
    "between the last checkpoint and its name": "block2-train-000000027",
    "while the configuration is written": None,
}
"""Where the script kills its runs, and the checkpoint from which each goes on."""


def _log(folder: Path, *kinds: str) -> list[tuple[Any, ...]]:
    """Return what was logged, without what depends on the clock or on the last interruption."""
    return [
        (record["kind"], record["block"], record["step"], record.get("message"))
        for record in read_metrics(folder / METRICS_FILE)
        if record["kind"] in kinds
    ]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


METRICS = ("train", "validation", "push_forward")


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


# -- SIGKILL --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a folder with one killed run per kill point."""
    root = tmp_path_factory.mktemp("killed")
    file = write_config(make_config(checkpoints=True), root / "tiny.yaml")
    command = [sys.executable, str(SCRIPT), file, str(root)]
    result = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == list(KILLED_AT)
    return root


@pytest.mark.parametrize("point", KILLED_AT)
def test_a_killed_run_goes_on_to_the_same_weights(
    killed: Path,
    trained: Path,
    make_config: MakeConfig,
    assert_same_weights: AssertSame,
    point: str,
) -> None:
    folder, latest = killed / point, KILLED_AT[point]
    assert (folder / LATEST_FILE).exists() == (latest is not None)
    if latest is not None:
        assert read_header(folder).folder.name == latest
    train(make_config(checkpoints=True), folder, device="cpu", resume=True, quiet=True)
    assert read_header(folder).complete
    assert_same_weights(folder, trained)
    assert _log(folder, *METRICS) == _log(trained, *METRICS)
    # One checkpoint was not logged any more by a process that was killed just before.
    events, expected = _log(folder, "event"), _log(trained, "event")
    if point == "between a checkpoint and the log":
        expected.remove(("event", 2, 23, "checkpoint block2-train-000000023"))
    assert events == expected
    # All checkpoints are there, and nothing half written.
    assert _names(folder / CHECKPOINTS) == _names(trained / CHECKPOINTS)
    assert _names(folder) == _names(trained)


# -- SIGTERM and SIGINT ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "n", "step"),
    [
        (signal.SIGINT, 1, 0),
        (signal.SIGTERM, 1, 14),
        (signal.SIGINT, 2, 6),
        (signal.SIGTERM, 2, 0),
        (signal.SIGTERM, 2, 14),
    ],
)
def test_a_signal_saves_a_checkpoint_and_ends_the_command(
    trained: Path,
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    before_step: BeforeStep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    n: int,
    step: int,
) -> None:
    file, folder = write_config(make_config(), tmp_path / "tiny.yaml"), tmp_path / "run"
    arguments = ["train", file, "--output", str(folder), "--device", "cpu", "--quiet"]
    before_step(n, step, lambda: os.kill(os.getpid(), number))
    assert main(arguments) == 1
    monkeypatch.undo()
    steps = (n - 1) * 15 + step + 1  # the step under way is finished first
    header = read_header(folder)
    assert header.folder.name == f"block{n}-train-{steps:09d}"
    assert header.training["steps"] == steps
    assert capsys.readouterr().err == (
        f"interrupted: stopped by {number.name} in block {n}, step {step + 1}; saved in {folder}; "
        "continue with --resume\n"
    )
    assert main([*arguments, "--resume"]) == 0
    assert_same_weights(folder, trained)
    assert _log(folder, *METRICS) == _log(trained, *METRICS)


def test_a_signal_in_the_push_forward_saves_what_was_pushed(
    trained: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    push_forward = FlowChain.push_forward

    def interrupted(*args: Any, **options: Any) -> Any:
        if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # the estimate pushes a batch, too
            os.kill(os.getpid(), signal.SIGTERM)
        return push_forward(*args, **options)

    # It stops after every batch: as often as there are batches.
    monkeypatch.setattr(FlowChain, "push_forward", interrupted)
    for rows in (16, 32):
        with pytest.raises(Interrupted, match="SIGTERM in block 1, step 15"):
            train(make_config(), tmp_path, resume=rows > 16, quiet=True)
        assert read_header(tmp_path).folder.name == f"block1-push_forward-{rows:09d}"
    # The third batch is the last one; then the first step of block 2 is where it stops.
    with pytest.raises(Interrupted, match="SIGTERM in block 2, step 1"):
        train(make_config(), tmp_path, resume=True, quiet=True)
    monkeypatch.undo()
    train(make_config(), tmp_path, resume=True, quiet=True)
    assert_same_weights(tmp_path, trained)
    assert _log(tmp_path, *METRICS) == _log(trained, *METRICS)


def test_sigterm_from_outside(
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = make_config({"training.total_steps": 1_000_000})
    file, folder = write_config(config, tmp_path / "tiny.yaml"), tmp_path / "run"
    arguments = ["train", file, "--output", str(folder), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lfm_policy", *arguments],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics, deadline = folder / METRICS_FILE, time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and len(read_metrics(metrics)) > 1:
            process.terminate()
            break
        time.sleep(0.05)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    steps = read_header(folder).training["steps"]
    assert steps >= read_metrics(metrics)[-1]["step"] > 0
    assert "parameters: encoder 0, block 1 3,224" in out
    assert f"interrupted: stopped by SIGTERM in block 1, step {steps}; saved in {folder}" in err
    assert "Traceback" not in err
    # Such a run does not go on with other options.
    assert main([*arguments, "--resume", "training.total_steps=40"]) == 2
    assert "training.total_steps was 1000000, is now 40" in capsys.readouterr().err


# -- what may be resumed --------------------------------------------------------------------------


@pytest.fixture
def stopped(trained: Path, tmp_path: Path) -> Path:
    """Return a run that stopped in block 2."""
    folder = tmp_path / "stopped"
    shutil.copytree(trained, folder)
    for later in ("block2-train-000000027", "final"):
        shutil.rmtree(folder / CHECKPOINTS / later)
    (folder / LATEST_FILE).write_text("block2-train-000000023\n")
    return folder


@pytest.mark.parametrize(
    ("key", "value", "old"),
    [
        ("seed", 4, 3),
        ("training.learning_rate", 0.01, 0.003),
        ("training.total_steps", 20, 30),
        ("training.batch_size", 16, 8),
        ("training.ema_decay", 0.5, 0.999),
        ("training.mixed_precision", "bf16", "no"),
        ("network.width", 32, 16),
        ("flow.n_blocks", 3, 2),
        ("flow.c", 0.2, 0.3),
        ("push_forward.batch_size", 32, 16),
        ("push_forward.solver", "heun", "dopri5"),
        ("normalization.action", "standard", "limits"),
        ("policy.horizon", 5, 4),
        ("dataset.validation_ratio", 0.0, 0.2),
    ],
)
def test_other_options_are_refused(
    stopped: Path, make_config: MakeConfig, key: str, value: Any, old: Any
) -> None:
    with pytest.raises(InputError) as caught:
        train(make_config({key: value}), stopped, resume=True, quiet=True)
    assert str(caught.value) == (
        f"{stopped}: cannot resume with other options: {key} was {old!r}, is now {value!r}"
    )
    assert read_header(stopped).folder.name == "block2-train-000000023"


def test_another_network_is_refused(stopped: Path, make_config: MakeConfig) -> None:
    config = make_config({"network": {"name": "transformer"}})
    with pytest.raises(InputError, match=r"network\.name was 'mlp', is now 'transformer'"):
        train(config, stopped, resume=True, quiet=True)


def test_options_that_do_not_matter_for_the_weights_may_change(
    stopped: Path,
    trained: Path,
    make_config: MakeConfig,
    demonstrations: Path,
    tmp_path: Path,
    assert_same_weights: AssertSame,
) -> None:
    moved = tmp_path / "moved.zarr"
    shutil.copytree(demonstrations, moved)
    changes = {
        "dataset.path": str(moved),
        "training.log_every": 2,
        "training.checkpoint_every": 3,
        "training.keep_checkpoints": 2,
        "training.num_threads": 1,
        "training.parallel_processes": 2,
        "push_forward.checkpoint_every": 2,
    }
    train(make_config(changes), stopped, resume=True, quiet=True)
    assert_same_weights(stopped, trained)
    assert _names(stopped / CHECKPOINTS) == ["block2-train-000000027", "final"]


def test_changed_options_are_listed_one_by_one(make_config: MakeConfig) -> None:
    old = make_config({"flow.step_sizes": [0.3], "training.num_threads": 1})
    new = make_config({"flow.step_sizes": [0.4], "seed": 9, "training.num_threads": 2})
    assert changed_options(old, old) == []
    assert changed_options(old, new) == [("seed", 3, 9), ("flow.step_sizes", [0.3], [0.4])]
    assert changed_options(old, new, free=["seed", "flow.step_sizes"]) == [
        ("training.num_threads", 1, 2)
    ]


def test_other_demonstrations_are_refused(
    stopped: Path, make_config: MakeConfig, other_demonstrations: Path
) -> None:
    config = make_config({"dataset.path": str(other_demonstrations)})
    with pytest.raises(InputError, match=r"was trained on other demonstrations \(fingerprint"):
        train(config, stopped, resume=True, quiet=True)


def test_another_number_of_processes_is_refused(stopped: Path, make_config: MakeConfig) -> None:
    file = read_header(stopped).folder / TRAIN_STATE / "state.json"
    content = json.loads(file.read_text())
    content["progress"]["world"] = 2
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"was trained by 2 process\(es\), now there are 1"):
        train(make_config(), stopped, resume=True, quiet=True)


@pytest.mark.parametrize(
    "damaged", ["config.json", "model.safetensors", "train_state/block.safetensors"]
)
def test_a_damaged_checkpoint_is_refused(
    stopped: Path,
    make_config: MakeConfig,
    write_config: WriteConfig,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    damaged: str,
) -> None:
    path = read_header(stopped).folder / damaged
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    file = write_config(make_config(), tmp_path / "tiny.yaml")
    arguments = ["train", file, "--output", str(stopped), "--device", "cpu", "--quiet"]
    assert main([*arguments, "--resume"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert str(path) in message


def test_a_folder_with_a_run_is_not_overwritten(stopped: Path, make_config: MakeConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    with pytest.raises(InputError, match="there is a run already; continue it with --resume"):
        train(make_config(), stopped, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_a_complete_run_has_nothing_to_resume(trained: Path, make_config: MakeConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    found = train(make_config(), trained, resume=True, quiet=True)
    assert found == trained / CHECKPOINTS / "final"
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    with pytest.raises(InputError, match="cannot resume with other options: seed was 3, is now 4"):
        train(make_config({"seed": 4}), trained, resume=True, quiet=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused(
    make_config: MakeConfig, tmp_path: Path, resume: bool
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("")
    for target in (tmp_path, file):
        with pytest.raises(InputError, match="exists already and holds no run"):
            train(make_config(), target, resume=resume, quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "thesis.tex"]


def test_resuming_nothing_starts_anew(
    trained: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        train(make_config(), folder, resume=True, quiet=True)
        assert_same_weights(folder, trained)
