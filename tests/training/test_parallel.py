"""Blocks that are trained at once, on the exact OU marginals of the demonstrations."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lfm_policy.checkpoint_folders import CHECKPOINTS, LATEST_FILE
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.flow import FlowBlock
from lfm_policy.policy import load_policy, read_header
from lfm_policy.training import (
    BlockPlan,
    Interrupted,
    Run,
    TrainingError,
    train,
    train_parts,
)
from lfm_policy.training.parallel import block_folder, device_of_block
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.trainer import Trainer

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
ReadWeights = Callable[[Path], dict[str, Tensor]]
AssertSame = Callable[[Path, Path], None]
BeforeStep = Callable[[int, int, Callable[[], None]], None]
StoppedAt = Callable[..., AbstractContextManager[None]]
WriteConfig = Callable[[ExperimentConfig, Path], str]

PARALLEL = {"training.block_training": "parallel", "training.warm_start": False}
TWO = {**PARALLEL, "training.parallel_processes": 2}


@pytest.fixture(scope="module")
def alone(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the parallel mode in a single process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(make_config(PARALLEL), folder, device="cpu", quiet=True)
    return folder


# -- the result -----------------------------------------------------------------------------------


def _assert_same_checkpoint(left: Path, right: Path, assert_same_weights: AssertSame) -> None:
    assert_same_weights(left, right)
    folders = [read_header(path).folder for path in (left, right)]
    names = [sorted(p.name for p in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] == ["config.json", "model.safetensors", "normalizer.safetensors"]
    one, other = (load_file(folder / "normalizer.safetensors") for folder in folders)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    contents = [json.loads((folder / "config.json").read_text()) for folder in folders]
    for content in contents:
        for key in ("sha256", "files"):
            content.pop(key)
        content["config"]["training"].pop("parallel_processes")
        content["training"].pop("train_seconds")
        for block in content["training"]["blocks"]:
            block.pop("train_seconds")
    assert contents[0] == contents[1]


def test_two_processes_give_the_checkpoint_of_one(
    alone: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    found = train(make_config(TWO), tmp_path, device="cpu", quiet=True)
    assert found == tmp_path / CHECKPOINTS / "final"
    _assert_same_checkpoint(found, alone, assert_same_weights)
    for n in (1, 2):
        records = read_metrics(block_folder(tmp_path, n) / METRICS_FILE)
        # The estimate stands before all parts.
        assert {record["block"] for record in records if record["kind"] != "estimate"} == {n}


def test_a_pretrained_encoder_is_described_before_processes_start(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'pretrained'")
    sizes = {"hidden_sizes": [8, 16], "depths": [1, 2], "embedding_size": 8, "layer_type": "basic"}
    transformers.ResNetModel(transformers.ResNetConfig(**sizes)).save_pretrained(tmp_path / "net")
    generator, ends = np.random.default_rng(0), np.array([12, 24, 36])
    arrays = {
        "action": generator.normal(size=(36, 2)).astype(np.float32),
        "camera": generator.integers(0, 255, (36, 24, 24, 3), dtype=np.uint8),
    }
    write_zarr(tmp_path / "images.zarr", ReplayBuffer(arrays, ends))
    image = {"name": "pretrained", "model": str(tmp_path / "net"), "output_dim": 4}
    changes = {
        **TWO,
        "dataset.path": str(tmp_path / "images.zarr"),
        "dataset.obs_keys": ["camera"],
        "encoder": {"name": "cameras", "image": {**image, "resize": [32, 32]}},
        "training.total_steps": 4,
        "training.encoder_views": 1,
    }
    assert train(make_config(changes), tmp_path / "run", device="cpu", quiet=True).name == "final"


@pytest.mark.parametrize(
    "changes", [{"flow.n_blocks": 3}, {"encoder.hidden": [6], "flow.n_blocks": 3}]
)
def test_any_number_of_processes_gives_the_same_checkpoint(
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    workers: list[int],
    changes: dict[str, Any],
) -> None:
    train(make_config({**PARALLEL, **changes}), tmp_path / "1", device="cpu", quiet=True)
    for processes in (2, 5):
        workers.clear()
        config = make_config({**TWO, "training.parallel_processes": processes, **changes})
        found = train(config, tmp_path / str(processes), device="cpu", quiet=True)
        assert workers == [1, 2, 3]
        _assert_same_checkpoint(found, tmp_path / "1", assert_same_weights)
    chunk = load_policy(found).predict_action_chunk({"position": torch.randn(3, 2, 3)})
    assert chunk.shape == (3, 2, 2)


def test_blocks_do_not_wait_for_what_others_learn(
    alone: Path, trained: Path, make_config: MakeConfig, tmp_path: Path, weights: ReadWeights
) -> None:
    """Block 2 is the same however block 1 is trained; one after the other it is not."""
    longer = {"training.total_steps": 45, "training.block_shares": [2, 1]}

    def second(folder: Path) -> dict[str, Tensor]:
        return {k: v for k, v in weights(folder).items() if k.startswith("blocks.1.")}

    train(make_config({**PARALLEL, **longer}), tmp_path / "parallel", quiet=True)
    train(make_config(longer), tmp_path / "sequential", quiet=True)
    expected, found = second(alone), second(tmp_path / "parallel")
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    expected, found = second(trained), second(tmp_path / "sequential")
    assert not any(torch.equal(found[key], expected[key]) for key in expected)


def test_nothing_is_pushed_forward(alone: Path) -> None:
    kinds = {record["kind"] for record in read_metrics(alone / METRICS_FILE)}
    assert kinds == {"estimate", "train", "validation", "event"}
    assert read_header(alone).training["push_seconds"] == 0


def test_block_n_trains_on_the_exact_marginal(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x_l of block n is exp(-T) x_0 + sqrt(1 - exp(-2 T)) z with T = gamma_1 + ... + gamma_(n-1).

    Over all batches, whose windows are visited equally often, mean and variance must fit.
    """
    from lfm_policy.training.rows.chunks import ChunkRows

    chunks, data = ChunkRows.chunks, {}
    drawn: dict[float, list[Tensor]] = {}

    def record(source: ChunkRows, idx: Tensor) -> Tensor:
        found = chunks(source, idx)
        gamma = 0.0 if source.marginal is None else float(source.marginal.gamma or 0)
        if len(idx) == 47:  # a training batch is the whole training set here
            drawn.setdefault(gamma, []).append(found)
            data["x_0"] = source.dataset.gather_action(torch.arange(47))
        return found

    monkeypatch.setattr(ChunkRows, "chunks", record)
    changes = {"flow.n_blocks": 3, "flow.step_sizes": [0.2, 0.5], "training.batch_size": 47}
    changes |= {"training.total_steps": 300}
    run = Run(make_config({**PARALLEL, **changes}), tmp_path, quiet=True)
    train_parts(run, BlockPlan(run))  # without an estimate, which draws some, too
    x_0 = data["x_0"].flatten(1)
    assert sorted(drawn) == pytest.approx([0.0, 0.2, 0.7])
    for gamma, batches in drawn.items():
        x = torch.cat(batches).flatten(1)
        assert len(x) == 100 * 47
        decay, noise = torch.exp(torch.tensor([-gamma, -2 * gamma]))
        mean, variance = decay * x_0.mean(0), decay**2 * x_0.var(0, correction=0) + 1 - noise
        # 5 standard errors; those of the mean are due to the noise alone
        assert (x.mean(0) - mean).abs().max() <= 5 * ((1 - noise) / len(x)).sqrt() + 1e-5
        error = 5 * (2 / len(x)) ** 0.5 * variance.max()
        assert (x.var(0) - variance).abs().max() <= (error if gamma else 1e-3)


def test_a_global_flow_needs_one_process_only(
    make_config: MakeConfig, tmp_path: Path, workers: list[int]
) -> None:
    changes = {**TWO, "flow.n_blocks": 1, "training.total_steps": 4}
    assert read_header(train(make_config(changes), tmp_path, quiet=True)).complete
    assert workers == []


# -- going on -------------------------------------------------------------------------------------


@pytest.fixture
def stopped(
    make_config: MakeConfig,
    tmp_path: Path,
    workers: list[int],
    stopped_at: StoppedAt,
) -> Path:
    """Return a run in two processes, of which that of block 1 was stopped in its step 7."""
    with stopped_at(1, 6, match="continue with --resume"):
        train(make_config(TWO), tmp_path / "run", device="cpu", quiet=True)
    assert workers == [1, 2]
    workers.clear()
    return tmp_path / "run"


def test_a_stopped_block_is_not_taken_for_a_trained_one(stopped: Path) -> None:
    assert not (stopped / LATEST_FILE).exists()
    assert read_header(block_folder(stopped, 1)).training["block_steps"] == [7, 0]
    assert read_header(block_folder(stopped, 2)).complete


@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_blocks_go_on_to_the_same_weights(
    alone: Path,
    stopped: Path,
    make_config: MakeConfig,
    assert_same_weights: AssertSame,
    workers: list[int],
    processes: int,
) -> None:
    config = make_config({**TWO, "training.parallel_processes": processes})
    found = train(config, stopped, device="cpu", resume=True, quiet=True)
    assert workers == [1, 2]
    _assert_same_checkpoint(found, alone, assert_same_weights)
    steps = [r["step"] for r in read_metrics(block_folder(stopped, 1) / METRICS_FILE)]
    assert steps == sorted(steps)


def test_a_run_of_one_process_goes_on_in_one(
    alone: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    workers: list[int],
) -> None:
    """It has one checkpoint of all blocks, and must not be taken for complete."""
    with stopped_at(2, 3):
        train(make_config(PARALLEL), tmp_path, device="cpu", quiet=True)
    found = train(make_config(TWO), tmp_path, device="cpu", resume=True, quiet=True)
    assert workers == []
    assert read_header(found).complete
    assert_same_weights(found, alone)


@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_blocks_are_not_overwritten(
    stopped: Path,
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    workers: list[int],
    capsys: pytest.CaptureFixture[str],
    processes: int,
) -> None:
    config = make_config({**TWO, "training.parallel_processes": processes})
    file = write_config(config, tmp_path / "tiny.yaml")
    arguments = ["train", file, "--output", str(stopped), "--device", "cpu", "--quiet"]
    before = (stopped / "config.yaml").read_text()
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {stopped}: there is a run already; continue it with")
    assert main([*arguments, "--resume", "training.learning_rate=0.1"]) == 2
    message = capsys.readouterr().err
    assert "cannot resume with other options: training.learning_rate was 0.003" in message
    assert workers == []
    assert (stopped / "config.yaml").read_text() == before


def test_other_demonstrations_are_refused(
    stopped: Path,
    alone: Path,
    make_config: MakeConfig,
    other_demonstrations: Path,
    workers: list[int],
) -> None:
    config = make_config({**TWO, "dataset.path": str(other_demonstrations)})
    with pytest.raises(InputError, match="was trained on other demonstrations"):
        train(config, stopped, resume=True, quiet=True)
    assert workers == []


def test_a_complete_run_is_left_alone(
    make_config: MakeConfig, tmp_path: Path, workers: list[int], other_demonstrations: Path
) -> None:
    found = train(make_config(TWO), tmp_path, device="cpu", quiet=True)
    workers.clear()
    assert train(make_config(TWO), tmp_path, device="cpu", resume=True, quiet=True) == found
    for changes, message in (
        ({"seed": 4}, "cannot resume with other options: seed was 3, is now 4"),
        ({"dataset.path": str(other_demonstrations)}, "was trained on other demonstrations"),
    ):
        with pytest.raises(InputError, match=message):
            train(make_config({**TWO, **changes}), tmp_path, resume=True, quiet=True)
    with pytest.raises(InputError, match="there is a run already"):
        train(make_config(TWO), tmp_path, quiet=True)
    assert workers == []


def test_a_run_killed_just_before_its_end_ends(
    make_config: MakeConfig, tmp_path: Path, workers: list[int]
) -> None:
    found = train(make_config(TWO), tmp_path, device="cpu", quiet=True)
    for path in (found, tmp_path / LATEST_FILE):
        # before the blocks were joined; between the checkpoint and its name
        shutil.rmtree(found) if path == found else None
        (tmp_path / LATEST_FILE).unlink()
        assert train(make_config(TWO), tmp_path, device="cpu", resume=True, quiet=True) == found
        assert read_header(tmp_path).folder == found


# -- failures -------------------------------------------------------------------------------------


def test_a_block_that_fails_says_why_and_the_others_can_go_on(
    alone: Path,
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    before_step: BeforeStep,
    workers: list[int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, train_step = FlowBlock.loss, Trainer.train_step
    before_step(
        2,
        6,
        lambda: monkeypatch.setattr(FlowBlock, "loss", lambda *a, **k: loss(*a, **k) * torch.nan),
    )
    file = write_config(make_config(TWO), tmp_path / "tiny.yaml")
    arguments = ["train", file, "--output", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert "block 2: error: the loss of block 2 is not finite" in message
    assert "trainingerror: training of block 2 failed" in message
    assert read_header(block_folder(tmp_path / "run", 1)).complete
    monkeypatch.setattr(FlowBlock, "loss", loss)
    monkeypatch.setattr(Trainer, "train_step", train_step)
    assert main([*arguments, "--resume"]) == 0
    assert_same_weights(tmp_path / "run", alone)


def test_a_failing_block_stops_the_training(
    make_config: MakeConfig, tmp_path: Path, workers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = FlowBlock.loss
    monkeypatch.setattr(FlowBlock, "loss", lambda *a, **k: loss(*a, **k) * torch.nan)
    with pytest.raises(TrainingError, match="training of block 1 failed"):
        train(make_config({**TWO, "encoder.hidden": [4]}), tmp_path, quiet=True)
    assert workers == [1]  # block 2 would need its encoder


def test_ctrl_c_while_processes_start(
    make_config: MakeConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A terminal sends it to all processes, also to those that import torch at that time."""

    def press() -> None:
        deadline = time.monotonic() + 60
        while len(multiprocessing.active_children()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    keyboard = threading.Thread(target=press)
    keyboard.start()
    with pytest.raises(Interrupted, match=f"stopped by SIGINT; saved in {tmp_path}; continue"):
        train(make_config(TWO), tmp_path, device="cpu", quiet=True)
    keyboard.join()
    assert not multiprocessing.active_children()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "found"),
    [("auto", ["cuda:0", "cuda:1", "cuda:0"]), ("cuda:1", ["cuda:1"] * 3), ("cpu", ["cpu"] * 3)],
)
def test_blocks_are_spread_over_the_gpus(
    monkeypatch: pytest.MonkeyPatch, asked: str, found: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of_block(asked, n) for n in (1, 2, 3)] == found
