"""Training in two processes on the CPU, started by ``accelerate launch``."""

from __future__ import annotations

import json
import operator
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lfm_policy.checkpoint_folders import CHECKPOINTS, LATEST_FILE
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle
from lfm_policy.errors import InputError
from lfm_policy.policy import PolicyModel, load_policy, read_header
from lfm_policy.policy.checkpoint import TRAIN_STATE, read_model_state
from lfm_policy.training import BlockPlan, Run, train
from lfm_policy.training.accelerator import make_accelerator
from lfm_policy.training.push import BlockPusher
from lfm_policy.training.rows.batches import BatchOrder
from lfm_policy.training.rows.chunks import ChunkRows
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.run_folder.state import read_train_state
from lfm_policy.training.seeds import STEP, derived_seed, seed_generators
from lfm_policy.training.trainer import Trainer

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
LoadData = Callable[[ExperimentConfig], DatasetBundle]
AssertSame = Callable[[Path, Path], None]
WriteConfig = Callable[[ExperimentConfig, Path], str]

# 25 steps per block: processes ask one another every 20 steps whether to stop.
CHANGES = {"training.total_steps": 50, "training.checkpoint_every": 12, "encoder.hidden": [6]}

# `--multi_gpu` only means several processes. With `--cpu` accelerate would start one, unless MPI
# is there to start them.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["--main_process_port", "0"]


SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> ExperimentConfig:
    return make_config(CHANGES, checkpoints=True)


@pytest.fixture(scope="module")
def launched(
    config: ExperimentConfig,
    write_config: WriteConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return the folder of all that two processes did."""
    root = tmp_path_factory.mktemp("launched")
    file = write_config(config, root / "tiny.yaml")
    result = subprocess.run(
        [sys.executable, *LAUNCH, str(SCRIPT), file, str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return root


def _results(root: Path) -> list[dict[str, tuple[int, str]]]:
    """Return exit code and output of every run, for both processes."""
    return [json.loads((root / f"{rank}.json").read_text()) for rank in range(2)]


def _state(folder: Path, checkpoint: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return read_train_state(folder / CHECKPOINTS / checkpoint / TRAIN_STATE)[1:]


def test_two_processes_end_with_one_complete_checkpoint(launched: Path) -> None:
    folder = launched / "run"
    header = read_header(folder)
    assert header.folder == folder / CHECKPOINTS / "final"
    assert header.complete
    assert header.training["world"] == 2
    assert header.training["block_steps"] == [25, 25]
    assert header.training["device"].startswith("cpu")
    chunk = load_policy(folder).predict_action_chunk({"position": torch.randn(3, 2, 3)})
    assert torch.isfinite(torch.as_tensor(chunk)).all()


def test_two_processes_say_everything_once(launched: Path) -> None:
    (code, out), second = (result["run"] for result in _results(launched))
    assert code == 0
    lines = [line for line in out.splitlines() if "this machine is busy" not in line]
    parameters, _, steps, estimate, _, end = lines
    assert parameters.startswith("parameters: ")
    assert "batch 8 x 2 on cpu" in steps
    assert estimate.startswith("estimate: about ")
    assert end.startswith("trained 50 steps")
    assert second == [0, ""]
    folder = launched / "run"
    records = read_metrics(folder / METRICS_FILE)
    seen = [(r["kind"], r["block"], r["step"], r.get("message")) for r in records]
    assert len(set(seen)) == len(seen)
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(5, 51, 5))
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_two_processes_teach_an_encoder_targets(launched: Path) -> None:
    assert [result["told"][0] for result in _results(launched)] == [0, 0]
    assert read_header(launched / "told").also_trained_on == ["goal"]
    records = read_metrics(launched / "told" / METRICS_FILE)
    (found,) = (r for r in records if r["kind"] == "train" and r["block"] == 1)
    assert found["auxiliary_unexplained_goal"] > 0


def test_the_push_forward_of_two_processes_is_that_of_one(
    launched: Path, config: ExperimentConfig, load_data: LoadData
) -> None:
    """47 windows in batches of 16 are two rounds: 16 + 16, then 15 and nothing."""
    folder = launched / "run"
    header = read_header(folder)
    model = PolicyModel(header.config, header.spec).eval()
    model.load_state_dict(read_model_state(header))
    data = load_data(config)
    accelerator = make_accelerator(config.training, torch.device("cpu"))
    pusher = BlockPusher(model, 1, config.push_forward, accelerator)
    _, chunks = _state(folder, "block2-train-000000037")
    assert data.validation is not None
    for split, windows in (("train", data.train), ("validation", data.validation)):
        alone = torch.cat([rows for rows, _ in pusher.push(ChunkRows(windows))])
        assert chunks[split].shape == (len(windows), 4, 2)
        torch.testing.assert_close(chunks[split], alone, rtol=1e-5, atol=1e-6)


def test_a_step_uses_a_batch_of_each_process(
    launched: Path, make_config: MakeConfig, load_data: LoadData, tmp_path: Path
) -> None:
    """The first moment of AdamW after one step is (1 - beta1) times the mean gradient."""
    config = make_config(CHANGES)
    data = load_data(config)
    run = Run(config, tmp_path / "unused", device="cpu")
    BlockPlan(run)  # draws the initial weights
    model = run.model
    named = dict(model.blocks[0].named_parameters(prefix="network"))
    named |= dict(model.encoder.named_parameters(prefix="encoder"))
    for parameter in named.values():
        parameter.requires_grad_(True)
    gradients, batches = [], []
    for rank in range(2):
        idx = BatchOrder(len(data.train), 8, seed=3, block=1, rank=rank, world=2).batch(0)
        seed_generators(derived_seed(3, STEP, 1, 0, rank), torch.device("cpu"))
        cond = model.encoder(data.train.gather_obs(idx))
        loss = model.flow_block(1).loss(data.train.gather_action(idx), cond)
        # At the start the last layer is zero, so others have no gradient yet.
        found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
        gradients.append(dict(zip(named, found, strict=True)))
        batches.append(set(idx.tolist()))
    assert not batches[0] & batches[1]
    state, _ = _state(launched / "one", "block1-push_forward-000000032")
    first, second = gradients
    for name in named:
        mean = (first[name] + second[name]) / 2
        found_mean = state[f"optimizer/{name}/exp_avg"] / (1 - 0.9)
        torch.testing.assert_close(found_mean, mean, rtol=1e-4, atol=1e-6)
    last = "network.proj_out.weight"
    assert (first[last] - second[last]).abs().max() > 1e-2  # the batches differ, and it shows


def test_the_loss_is_that_of_one_process_at_the_same_total_batch(
    launched: Path, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process with batches of 16, whose halves draw the noise that 2 processes drew."""

    def learn(trainer: Trainer, *batch: Any) -> tuple[Tensor, Tensor]:
        halves = []
        for rank in range(2):
            key = (trainer._seed, STEP, trainer.n, trainer.step, rank)
            seed_generators(derived_seed(*key), torch.device("cpu"))
            rows = slice(8 * rank, 8 * (rank + 1))
            mine = tree_map_only(Tensor, operator.itemgetter(rows), batch)
            halves.append(trainer._wrapped(*mine))
        loss = (halves[0] + halves[1]) / 2
        trainer._accelerator.backward(loss)
        norm = trainer._clip_gradients()
        trainer._optimizer.step()
        trainer._optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm

    monkeypatch.setattr(Trainer, "_learn", learn)
    config = make_config(CHANGES | {"training.batch_size": 16}, checkpoints=True)
    train(config, tmp_path, device="cpu", quiet=True)

    def losses(folder: Path, kind: str) -> dict[tuple[int, int], float]:
        records = read_metrics(folder / METRICS_FILE)
        return {(r["block"], r["step"]): r["loss"] for r in records if r["kind"] == kind}

    alone, both = losses(tmp_path, "train"), losses(launched / "run", "train")
    assert len(alone) == 10 and both == pytest.approx(alone, rel=1e-3)
    alone, both = losses(tmp_path, "validation"), losses(launched / "run", "validation")
    # Validation draws its noise batch by batch, and batches are of 16 and of 8 rows.
    assert len(alone) > 2 and both == pytest.approx(alone, rel=0.05)


def test_a_signal_to_one_process_stops_all_and_they_go_on_to_the_same_weights(
    launched: Path, assert_same_weights: AssertSame
) -> None:
    for rank, result in enumerate(_results(launched)):
        assert result["stopped"] == [1, ""]
        code, out = result["resumed"]
        assert code == 0
        assert json.loads(out)["training"]["complete"] if rank == 0 else not out
    # They asked one another in step 20 of block 2.
    assert (launched / "stopped" / CHECKPOINTS / "block2-train-000000045").exists()
    assert_same_weights(launched / "stopped", launched / "run")


def test_fewer_processes_do_not_go_on(
    launched: Path, config: ExperimentConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(launched / "run", folder)
    (folder / LATEST_FILE).write_text("block2-train-000000037\n")
    with pytest.raises(InputError, match=r"was trained by 2 process\(es\), now there are 1"):
        train(config, folder, device="cpu", resume=True, quiet=True)


def test_blocks_in_processes_of_their_own_do_not_mix_with_launched_processes(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the launched processes would start one for every block, in the same folder."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    changes: dict[str, Any] = {"training.block_training": "parallel"}
    changes |= {"training.parallel_processes": 2, "training.warm_start": False}
    with pytest.raises(InputError, match="training.parallel_processes is 2"):
        train(make_config(changes), tmp_path, device="cpu", quiet=True)
