from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lfm_policy.checkpoint_folders import CHECKPOINTS
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig, load_config
from lfm_policy.data.dataset import DatasetBundle
from lfm_policy.errors import InputError
from lfm_policy.flow import FlowBlock
from lfm_policy.policy import load_policy, read_header
from lfm_policy.policy.checkpoint import TRAIN_STATE
from lfm_policy.training import BlockPlan, Run, TrainingError, train
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.run_folder.state import read_train_state

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
LoadData = Callable[[ExperimentConfig], DatasetBundle]
ReadWeights = Callable[[Path], dict[str, Tensor]]
AssertSame = Callable[[Path, Path], None]
BeforeStep = Callable[[int, int, Callable[[], None]], None]
WriteConfig = Callable[[ExperimentConfig, Path], str]


def _block(weights: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    prefix = f"blocks.{n - 1}."
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


# -- the result -----------------------------------------------------------------------------------


def test_the_final_checkpoint_is_complete_and_usable(trained: Path) -> None:
    header = read_header(trained)
    assert header.folder == trained / CHECKPOINTS / "final"
    assert header.complete
    assert header.training["block_steps"] == [15, 15]
    assert header.training["steps"] == 30
    assert header.training["world"] == 1
    assert header.training["train_windows"] == 47
    assert not (header.folder / TRAIN_STATE).exists()
    policy = load_policy(trained)
    chunk = policy.predict_action_chunk({"position": torch.randn(3, 2, 3)})
    assert chunk.shape == (3, 2, 2)
    assert torch.isfinite(torch.as_tensor(chunk)).all()


def test_the_run_folder_holds_its_configuration(trained: Path, make_config: MakeConfig) -> None:
    assert load_config(str(trained / "config.yaml")) == make_config(checkpoints=True)
    assert {path.name for path in trained.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "latest",
        "metrics.jsonl",
        "tensorboard",
    }


def test_the_same_seed_gives_the_same_weights(
    trained: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    """Logging, validating and saving more or less often changes nothing."""
    torch.manual_seed(99)  # nor does what happened before
    changes = {"training.log_every": 1, "training.validation_every": 3}
    checkpoint = train(make_config(changes), tmp_path / "run", device="cpu", quiet=True)
    assert checkpoint == tmp_path / "run" / CHECKPOINTS / "final"
    assert_same_weights(trained, checkpoint)


def test_another_seed_gives_other_weights(
    trained: Path, make_config: MakeConfig, tmp_path: Path, weights: ReadWeights
) -> None:
    other = weights(train(make_config({"seed": 4}), tmp_path, quiet=True))
    reference = weights(trained)
    assert not any(torch.equal(other[key], reference[key]) for key in reference)


def test_training_learns(make_config: MakeConfig, tmp_path: Path) -> None:
    """Actions follow from observations up to noise of 0.1, so a global flow can become good.

    The loss of a perfect flow is not zero, because paths from noise to data cross. Here it falls
    to about a seventh.
    """
    changes = {"flow.n_blocks": 1, "training.total_steps": 400, "training.batch_size": 32}
    changes |= {"training.learning_rate": 1e-2, "training.log_every": 10, "network.width": 32}
    train(make_config(changes), tmp_path, quiet=True)
    records = read_metrics(tmp_path / METRICS_FILE)
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    assert len(losses) == 40
    assert losses[-1] < losses[0] / 4
    validation = [record["loss"] for record in records if record["kind"] == "validation"]
    assert validation[-1] < validation[0] / 2


def test_a_trained_policy_imitates(
    make_config: MakeConfig, load_data: LoadData, tmp_path: Path
) -> None:
    """The sampled chunks are nearer to the demonstrated ones than those of other windows."""
    changes = {"training.total_steps": 800, "training.batch_size": 32, "network.width": 32}
    changes |= {"training.learning_rate": 1e-2, "dataset.validation_ratio": 0.0}
    config = make_config(changes)
    policy = load_policy(train(config, tmp_path, quiet=True))
    data = load_data(config)
    idx = torch.arange(len(data.train))
    obs = {
        key: data.normalizer.unnormalize(key, value)
        for key, value in data.train.gather_obs(idx).items()
    }
    found = torch.as_tensor(policy.predict_action_chunk(obs))
    chunks = data.normalizer.unnormalize("action", data.train.gather_action(idx))
    demonstrated = chunks[:, 1:3]  # from index n_obs_steps - 1 on
    error = (found - demonstrated).square().mean()
    assert error < demonstrated.var() / 4


# -- blocks ---------------------------------------------------------------------------------------


def test_a_global_flow_is_one_block_without_push_forward(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    checkpoint = train(make_config({"flow.n_blocks": 1}), tmp_path, quiet=True)
    training = read_header(checkpoint).training
    assert training["block_steps"] == [30]
    assert training["push_seconds"] == 0
    kinds = {record["kind"] for record in read_metrics(tmp_path / METRICS_FILE)}
    assert kinds == {"estimate", "train", "validation", "event"}


@pytest.mark.parametrize(
    ("total", "shares", "steps"),
    [
        (30, [], [10, 10, 10]),
        (31, [], [10, 11, 10]),
        (3, [], [1, 1, 1]),
        (30, [1, 2, 3], [5, 10, 15]),
        (7, [0.5, 0.5, 2.5], [1, 1, 5]),
    ],
)
def test_steps_are_shared_among_the_blocks(
    make_config: MakeConfig, tmp_path: Path, total: int, shares: list[float], steps: list[int]
) -> None:
    changes = {
        "flow.n_blocks": 3,
        "training.total_steps": total,
        "training.block_shares": shares,
    }
    training = read_header(train(make_config(changes), tmp_path, quiet=True)).training
    assert training["block_steps"] == steps
    assert sum(steps) == total


def test_a_block_without_steps_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"training.block_shares": [1, 1000], "training.total_steps": 10})
    with pytest.raises(InputError, match="training.block_shares gives block 1 no step"):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_checkpoint_holds_averaged_weights(trained: Path, weights: ReadWeights) -> None:
    """Also that of a block still in training, whose trained weights are kept for resuming."""
    final = weights(trained)
    for name, n in (("block1-train-000000008", 1), ("block1-push_forward-000000016", 1)):
        folder = trained / CHECKPOINTS / name
        _, state, _ = read_train_state(folder / TRAIN_STATE)
        average = {
            key.removeprefix("average/network."): value
            for key, value in state.items()
            if key.startswith("average/network.")
        }
        online = {key: state[f"online/network.{key}"] for key in average}
        assert _same(_block(weights(folder), n), average)
        assert not _same(online, average)
    # The block is not touched again once it is trained.
    assert _same(_block(final, 1), average)


def test_the_average_is_not_the_last_weights(
    trained: Path, make_config: MakeConfig, tmp_path: Path, weights: ReadWeights
) -> None:
    """Without averaging the first block would be the one that was trained last."""
    _, state, _ = read_train_state(
        trained / CHECKPOINTS / "block1-push_forward-000000016" / TRAIN_STATE
    )
    unaveraged = weights(train(make_config({"training.ema_decay": 0.0}), tmp_path, quiet=True))
    for key, value in _block(unaveraged, 1).items():
        assert torch.equal(value, state[f"online/network.{key}"])


# -- warm start -----------------------------------------------------------------------------------


def _initial(config: ExperimentConfig, folder: Path) -> dict[str, Tensor]:
    run = Run(config, folder, device="cpu")
    BlockPlan(run)  # draws the initial weights
    return {key: value.clone() for key, value in run.model.state_dict().items()}


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({}, True),
        ({"training.warm_start": False}, False),
        ({"block_networks": [{"width": 16}, {"width": 16}]}, True),
        ({"block_networks": [{"width": 16}, {"width": 8}]}, False),
        ({"block_networks": [{"n_layers": 1}, {"n_layers": 2}]}, False),
    ],
)
def test_a_block_starts_from_the_one_before_it_if_it_has_its_shape(
    make_config: MakeConfig,
    tmp_path: Path,
    weights: ReadWeights,
    changes: dict[str, Any],
    copies: bool,
) -> None:
    # With a learning rate of 0 the final weights are the initial ones.
    config = make_config({"training.learning_rate": 0.0, "training.total_steps": 4, **changes})
    initial = _initial(config, tmp_path / "run")
    final = weights(train(config, tmp_path / "run", quiet=True))
    assert not _same(_block(initial, 1), _block(initial, 2))
    assert _same(_block(final, 1), _block(initial, 1))
    assert _same(_block(final, 2), _block(initial, 1 if copies else 2))


def test_a_warm_start_takes_trained_and_averaged_weights(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    changes = {"training.checkpoint_every": 1, "training.ema_decay": 0.9999}
    train(make_config(changes, checkpoints=True), tmp_path, quiet=True)
    before, after = (
        read_train_state(tmp_path / CHECKPOINTS / name / TRAIN_STATE)[1]
        for name in ("block1-push_forward-000000016", "block2-train-000000016")
    )
    # The first step of a warm-up has a learning rate of 0, so the trained weights are as they
    # were. The average goes on from where it stood: this is its update 16, see EMAModel.
    decay = 1 - 16**-0.75
    for name in [key.removeprefix("online/") for key in after if key.startswith("online/")]:
        online = before[f"online/{name}"]
        assert torch.equal(after[f"online/{name}"], online)
        expected = decay * before[f"average/{name}"] + (1 - decay) * online
        torch.testing.assert_close(after[f"average/{name}"], expected)
        # not the optimiser: these are the moments of a first step
        assert float(after[f"optimizer/{name}/step"]) == 1


# -- encoder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_encoder_learns_with_the_first_block_and_is_frozen_afterwards(
    make_config: MakeConfig, tmp_path: Path, weights: ReadWeights, mode: str
) -> None:
    changes = {"encoder.hidden": [6], "flow.n_blocks": 3, "training.block_training": mode}
    changes |= {"training.checkpoint_every": 4, "training.keep_checkpoints": 1000}
    config = make_config({"training.warm_start": False, **changes})
    initial = _initial(config, tmp_path / "run")
    final = weights(train(config, tmp_path / "run", quiet=True))
    names = [key for key in final if key.startswith("encoder.")]
    assert len(names) == 2
    for key in names:
        assert not torch.equal(final[key], initial[key])
        # averaged, like the block with which it learnt
        for step in (14, 18, 24, 28):
            n = 2 if step < 20 else 3
            checkpoint = tmp_path / "run" / CHECKPOINTS / f"block{n}-train-{step:09d}"
            assert torch.equal(weights(checkpoint)[key], final[key])
    assert (
        len(load_policy(tmp_path / "run").predict_action_chunk({"position": torch.randn(3, 2, 3)}))
        == 3
    )


# -- other experiments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset.validation_ratio": 0.0},
        {"flow.coupling": "independent"},
        {"flow.coupling": "shuffled"},
        {"flow.coupling": "optimal", "flow.coupling_weight": 3.0},
        {"flow.interpolant": "trigonometric"},
        {"flow.block_interpolants": ["trigonometric", "linear"]},
        {"flow.time": {"name": "beta", "alpha": 2.0, "beta": 1.0}},
        {"push_forward.solver": "heun", "push_forward.n_steps": 3},
        {"network": {"name": "transformer", "width": 8, "n_layers": 1, "n_heads": 2}},
        {"network.dropout": 0.3},
        {"training.gradient_clip": 0.0},
        {"training.batch_size": 100},  # more than there are windows
        {"training.block_training": "parallel", "training.warm_start": False},
    ],
)
def test_other_experiments_train(
    make_config: MakeConfig, tmp_path: Path, weights: ReadWeights, changes: dict[str, Any]
) -> None:
    checkpoint = train(make_config({"training.total_steps": 6, **changes}), tmp_path, quiet=True)
    assert all(torch.isfinite(value).all() for value in weights(checkpoint).values())
    assert load_policy(checkpoint) is not None


def test_training_works_outside_the_main_thread(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"training.total_steps": 4})
    found: list[Path] = []
    thread = threading.Thread(target=lambda: found.append(train(config, tmp_path, quiet=True)))
    thread.start()
    thread.join()
    assert found == [tmp_path / CHECKPOINTS / "final"]


# -- precision and compiler -----------------------------------------------------------------------


def test_bf16_trains_on_a_cpu(
    trained: Path, make_config: MakeConfig, tmp_path: Path, weights: ReadWeights
) -> None:
    config = make_config({"training.mixed_precision": "bf16"})
    found, reference = weights(train(config, tmp_path, device="cpu", quiet=True)), weights(trained)
    differences = []
    for key, value in found.items():
        assert value.dtype == torch.float32  # the weights themselves stay exact
        assert torch.isfinite(value).all()
        differences.append(float((value - reference[key]).abs().max()))
    # Close to float32, and yet not the same: half the digits are gone.
    assert 0 < max(differences) < 0.05


def test_fp16_on_a_cpu_falls_back_to_float32(
    trained: Path, make_config: MakeConfig, tmp_path: Path, assert_same_weights: AssertSame
) -> None:
    config = make_config({"training.mixed_precision": "fp16"})
    with pytest.warns(UserWarning, match="fp16 needs a GPU"):
        train(config, tmp_path, device="cpu", quiet=True)
    assert_same_weights(tmp_path, trained)
    # The configuration is kept as it was asked for.
    assert read_header(tmp_path).config.training.mixed_precision == "fp16"


def test_a_compiled_network_is_trained_and_stored_like_any_other(
    trained: Path,
    make_config: MakeConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[Any] = []

    def compile(model: Any, **options: Any) -> Any:
        compiled.append(model)
        return (lambda *args: model(*args)) if isinstance(model, torch.nn.Module) else model

    monkeypatch.setattr(torch, "compile", compile)
    train(make_config({"training.compile": True}), tmp_path, device="cpu", quiet=True)
    assert sum(isinstance(model, torch.nn.Module) for model in compiled) == 2
    assert_same_weights(tmp_path, trained)


# -- what the user sees ---------------------------------------------------------------------------


def test_parameters_are_printed_before_training_starts(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"block_networks": [{"width": 16}, {"width": 8}], "encoder.hidden": [6]}
    train(make_config({"training.total_steps": 4, **changes}), tmp_path)
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if "this machine is busy" not in line]
    parameters, data, steps, estimate, needs = lines
    assert estimate.startswith("estimate: about ") and "memory up to" in needs
    counts = read_header(tmp_path).training["parameters"]
    assert counts["total"] == counts["encoder"] + counts["block 1"] + counts["block 2"]
    for name, count in counts.items():
        assert f"{name} {count:,}" in parameters
    assert "47 windows of 4 training episodes (1 for validation)" in data
    assert "2 + 2 = 4" in steps
    for label in ("block 1/2", "push 1/2", "block 2/2"):
        assert label in shown.err
    assert "loss=" in shown.err
    assert "step/s" in shown.err or "s/step" in shown.err


def test_quiet_is_quiet(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(make_config({"training.total_steps": 4}), tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_the_command_trains(
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_config(make_config({"training.total_steps": 4}), tmp_path / "tiny.yaml")
    arguments = ["train", file, "--device", "cpu", "--output", str(tmp_path / "run")]
    assert main([*arguments, "--json", "--seed", "8"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["checkpoint"] == str(tmp_path / "run" / CHECKPOINTS / "final")
    assert result["training"]["complete"]
    assert read_header(tmp_path / "run").config.seed == 8
    # A run that is there already is not overwritten, and a complete one has nothing to resume.
    assert main([*arguments, "--seed", "8"]) == 2
    assert "there is a run already; continue it with --resume" in capsys.readouterr().err
    assert main([*arguments, "--seed", "8", "--resume"]) == 0
    assert "trained 4 steps" in capsys.readouterr().out


# -- metrics --------------------------------------------------------------------------------------


def test_metrics_are_complete_and_in_order(trained: Path) -> None:
    records = read_metrics(trained / METRICS_FILE)
    steps = [record["step"] for record in records]
    assert steps == sorted(steps)
    times = [record["time"] for record in records]
    assert times == sorted(times)
    of_kind = {
        kind: [(r["block"], r["step"]) for r in records if r["kind"] == kind]
        for kind in ("train", "validation", "push_forward")
    }
    assert of_kind["train"] == [(1, 5), (1, 10), (1, 15), (2, 20), (2, 25), (2, 30)]
    assert of_kind["validation"] == [(1, 10), (1, 15), (2, 25), (2, 30)]
    assert of_kind["push_forward"] == [(1, 15)]
    for record in records:
        if record["kind"] == "train":
            assert record.keys() >= {"loss", "gradient_norm", "learning_rate", "steps_per_second"}
            assert all(math.isfinite(v) for v in record.values() if isinstance(v, float))
    messages = [record["message"] for record in records if record["kind"] == "event"]
    written = sorted(path.name for path in (trained / CHECKPOINTS).iterdir())
    assert sorted(message.removeprefix("checkpoint ") for message in messages) == written
    assert list((trained / "tensorboard").glob("events.out.tfevents.*"))


def test_the_push_forward_is_reported(trained: Path) -> None:
    (push,) = [r for r in read_metrics(trained / METRICS_FILE) if r["kind"] == "push_forward"]
    blocks = read_header(trained).training["blocks"]
    assert push["nfe"] == blocks[0]["push_nfe"] > 0
    assert push["std"] > 0
    assert blocks[1]["push_nfe"] == 0


# -- losses that are no numbers -------------------------------------------------------------------


@pytest.fixture
def spoil_loss(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Tensor], Tensor]], None]:
    """Return a function that changes every loss from now on."""
    loss = FlowBlock.loss

    def spoil(change: Callable[[Tensor], Tensor]) -> None:
        monkeypatch.setattr(
            FlowBlock, "loss", lambda block, *args, **options: change(loss(block, *args, **options))
        )

    return spoil


def _nan(loss: Tensor) -> Tensor:
    return loss * math.nan


def _nan_gradient(loss: Tensor) -> Tensor:
    """Leave the value as it is; the derivative is infinity times zero."""
    return loss + (0 * loss).sqrt()


@pytest.mark.parametrize(("n", "step"), [(1, 6), (2, 6)])
@pytest.mark.parametrize("change", [_nan, _nan_gradient, lambda loss: loss * math.inf])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    trained: Path,
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    weights: ReadWeights,
    before_step: BeforeStep,
    spoil_loss: Callable[[Callable[[Tensor], Tensor]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    n: int,
    step: int,
    change: Callable[[Tensor], Tensor],
) -> None:
    file = write_config(make_config(checkpoints=True), tmp_path / "tiny.yaml")
    arguments = ["train", file, "--output", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    before_step(n, step, lambda: spoil_loss(change))
    assert main(arguments) == 1
    monkeypatch.undo()  # both fixtures
    good = tmp_path / "run" / CHECKPOINTS / f"block{n}-train-{(n - 1) * 15 + 4:09d}"
    message = capsys.readouterr().err
    assert f"trainingerror: the loss of block {n} is not finite at step" in message
    assert f"the last good checkpoint is {good}" in message
    assert "training.learning_rate" in message
    assert read_header(tmp_path / "run").folder == good
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())
    records = read_metrics(tmp_path / "run" / METRICS_FILE)
    assert records[-1]["message"] == "the loss is not finite"
    # If the cause is gone, it goes on from there.
    assert main([*arguments, "--resume"]) == 0
    assert_same_weights(tmp_path / "run", trained)


def test_a_first_loss_that_is_no_number_says_that_there_is_no_checkpoint(
    make_config: MakeConfig,
    tmp_path: Path,
    before_step: BeforeStep,
    spoil_loss: Callable[[Callable[[Tensor], Tensor]], None],
) -> None:
    before_step(1, 1, lambda: spoil_loss(_nan))
    with pytest.raises(TrainingError, match="there is no checkpoint yet"):
        train(make_config(), tmp_path, quiet=True)
    assert not (tmp_path / "latest").exists()


def test_weights_that_are_no_numbers_are_not_saved(
    make_config: MakeConfig,
    tmp_path: Path,
    before_step: BeforeStep,
    spoil_loss: Callable[[Callable[[Tensor], Tensor]], None],
) -> None:
    """The loss of the very last step is a number, but not what becomes of the weights."""
    before_step(2, 14, lambda: spoil_loss(_nan_gradient))
    with pytest.raises(TrainingError, match="not finite"):
        train(make_config(checkpoints=True), tmp_path, quiet=True)
    assert read_header(tmp_path).folder.name == "block2-train-000000027"


@pytest.mark.parametrize("solver", ["dopri5", "euler"])
def test_a_push_forward_that_cannot_be_integrated_stops_with_a_message(
    make_config: MakeConfig,
    write_config: WriteConfig,
    tmp_path: Path,
    before_step: BeforeStep,
    spoil_loss: Callable[[Callable[[Tensor], Tensor]], None],
    capsys: pytest.CaptureFixture[str],
    solver: str,
) -> None:
    # The weights become NaN in the last step of block 1, whose loss is still a number.
    config = make_config({"push_forward.solver": solver}, checkpoints=True)
    file = write_config(config, tmp_path / "tiny.yaml")
    before_step(1, 14, lambda: spoil_loss(_nan_gradient))
    arguments = ["train", file, "--output", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("trainingerror: ")
    assert "block 1" in message
    assert "push-forward" in message
    assert read_header(tmp_path / "run").folder.name == "block1-train-000000012"
