from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle
from lfm_policy.errors import InputError
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.accelerator import make_accelerator
from lfm_policy.training.blocks import BlockLoss
from lfm_policy.training.rows.batches import BatchOrder
from lfm_policy.training.rows.chunks import ChunkRows, encode_all
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.trainer import Part, Trainer

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
LoadData = Callable[[ExperimentConfig], DatasetBundle]
MakeModel = Callable[[ExperimentConfig, DatasetBundle], PolicyModel]


class Setup(NamedTuple):
    """A trainer, the model it trains and the data it trains on."""

    trainer: Trainer
    model: PolicyModel
    rows: ChunkRows


MakeTrainer = Callable[..., Setup]


@pytest.fixture
def make_trainer(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel
) -> MakeTrainer:
    """Return a function that makes the trainer of block ``n``."""

    def make(n: int = 1, changes: dict[str, Any] | None = None, n_steps: int = 20) -> Setup:
        config = make_config(changes)
        data = load_data(config)
        model = make_model(config, data)
        pushed = cond = None
        if n > 1:
            generator = torch.Generator().manual_seed(7)
            pushed = torch.randn(len(data.train), *model.chunk_shape, generator=generator)
            cond = encode_all(model, data.train, 100)
        rows = ChunkRows(
            data.train,
            pushed=pushed,
            cond=cond,
            obs_noise=ObsNoise(config.training, data.train),
            draws_other=model.flow_block(n).needs_other,
        )
        accelerator = make_accelerator(config.training, torch.device("cpu"))
        loss = BlockLoss(model, n, trains_encoder=n == 1)
        part = Part(n, loss, rows, None, n_steps, config.training)
        return Setup(Trainer(part, accelerator, seed=1), model, rows)

    return make


def _clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in tensors.items()}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def _assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert not _changed(expected, found)


# -- what is trained ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
def test_only_the_block_itself_learns(make_trainer: MakeTrainer, n: int) -> None:
    trainer, model, _ = make_trainer(n, {"flow.n_blocks": 3})
    before = _clone(model.state_dict())
    for _ in range(3):
        trainer.train_step()
    changed = _changed(before, model.state_dict())
    assert changed == {key for key in before if key.startswith(f"blocks.{n - 1}.")}


def test_the_encoder_learns_with_the_first_block_and_is_frozen_afterwards(
    make_trainer: MakeTrainer,
) -> None:
    for n, learns in ((1, True), (2, False)):
        trainer, model, _ = make_trainer(n, {"encoder.hidden": [6]})
        before = _clone(model.encoder.state_dict())
        trainer.train_step()
        trainer.train_step()
        expected = before.keys() if learns else set()
        assert _changed(before, model.encoder.state_dict()) == expected
        assert any(name.startswith("encoder.") for name in trainer.ema()) == learns


@pytest.mark.parametrize(("rounded", "precision"), [(False, "highest"), (True, "medium")])
def test_only_gradient_steps_round_what_they_multiply(
    make_trainer: MakeTrainer, rounded: bool, precision: str
) -> None:
    changes = {"training.bf16_products": rounded, "training.tf32": True}  # that is for GPUs
    trainer, model, _ = make_trainer(1, changes)
    before, found = torch.get_float32_matmul_precision(), []
    for network in model.blocks[0].children():
        network.register_forward_hook(lambda *_: found.append(torch.get_float32_matmul_precision()))
    trainer.train_step()
    assert found and set(found) == {precision}
    assert torch.get_float32_matmul_precision() == before


def test_loss_and_gradient_norm_are_finite_scalars(make_trainer: MakeTrainer) -> None:
    loss, norm = make_trainer().trainer.train_step()
    assert loss.shape == norm.shape == ()
    assert loss > 0
    assert norm > 0
    assert not loss.requires_grad


@pytest.mark.parametrize("coupling", ["dependent", "shuffled", "independent"])
@pytest.mark.parametrize("n", [1, 2])
def test_every_coupling_trains(make_trainer: MakeTrainer, coupling: str, n: int) -> None:
    trainer, *_ = make_trainer(n, {"flow.coupling": coupling})
    losses = [float(trainer.train_step()[0]) for _ in range(3)]
    assert all(math.isfinite(loss) for loss in losses)


# -- one step -------------------------------------------------------------------------------------


def test_steps_depend_on_nothing_but_weights_and_position(make_trainer: MakeTrainer) -> None:
    results = []
    for disturb in (False, True):
        trainer, *_ = make_trainer()
        for _ in range(4):
            trainer.train_step()
            if disturb:  # whatever else draws random numbers between two steps
                torch.randn(5)
        results.append(_clone(trainer.tensors()))
    _assert_equal(results[0], results[1])


def test_gradients_are_clipped(make_trainer: MakeTrainer) -> None:
    moments = {}
    for clip in (0.0, 1e-3):
        trainer, *_ = make_trainer(changes={"training.gradient_clip": clip})
        _, norm = trainer.train_step()
        gradients = [
            value / (1 - 0.9)
            for key, value in trainer.tensors().items()
            if key.endswith("/exp_avg")
        ]
        moments[clip] = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        assert float(norm) > 1e-2  # before clipping
        if clip == 0.0:
            assert moments[clip] == pytest.approx(float(norm), rel=1e-4)
    assert moments[1e-3] == pytest.approx(1e-3, rel=1e-2)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(make_trainer: MakeTrainer) -> None:
    changes = {"training.learning_rate": 0.1, "training.warmup_steps": 4}
    trainer, *_ = make_trainer(changes=changes, n_steps=12)
    rates = []
    for _ in range(12):
        rates.append(trainer.learning_rate)
        trainer.train_step()
    warmup = [0.1 * step / 4 for step in range(4)]
    cosine = [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates == pytest.approx([*warmup, *cosine])
    assert trainer.learning_rate == pytest.approx(0.0, abs=1e-12)


def test_a_warm_up_longer_than_the_block_is_cut(make_trainer: MakeTrainer) -> None:
    trainer, *_ = make_trainer(changes={"training.warmup_steps": 1000}, n_steps=5)
    rates = []
    for _ in range(5):
        rates.append(trainer.learning_rate)
        trainer.train_step()
    assert rates == pytest.approx([3e-3 * step / 5 for step in range(5)])


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_observation_noise_is_for_training_steps_only(
    make_trainer: MakeTrainer, noise: float
) -> None:
    changes = {"training.obs_noise": noise, "training.batch_size": 94}
    trainer, _, rows = make_trainer(changes=changes)
    seen: list[Tensor] = []
    trainer.loss.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[1]["position"].clone())
    )
    trainer.validation_loss(rows, len(rows))
    exact = rows.batch(torch.arange(len(rows)), training=False)[1]["position"]
    assert torch.equal(seen.pop(), exact)
    trainer.train_step()
    idx = BatchOrder(len(rows), 94, seed=1, block=1).batch(0)
    added = seen.pop() - exact[idx]
    assert added.std() == pytest.approx(noise, rel=0.15)  # of 564 numbers
    assert (added.mean() == 0) == (noise == 0)


# -- the average of the weights -------------------------------------------------------------------


def test_the_average_follows_its_definition(make_trainer: MakeTrainer) -> None:
    """Decay of update k is min(decay, 1 - k**-power), so that it starts as a copy."""
    changes = {"training.ema_decay": 0.7, "training.ema_power": 0.75}
    trainer, *_ = make_trainer(changes=changes)
    expected: dict[str, Tensor] = {}
    for step in range(8):
        trainer.train_step()
        online = {
            key.removeprefix("online/"): value.detach().clone()
            for key, value in trainer.tensors().items()
            if key.startswith("online/")
        }
        decay = min(0.7, 1 - (1 + step) ** -0.75) if step else 0.0
        expected = {
            key: online[key] if not expected else decay * expected[key] + (1 - decay) * online[key]
            for key in online
        }
        averaged = trainer.ema()
        assert averaged.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(averaged[key], expected[key])


def test_the_network_gets_the_averaged_weights_at_the_end(make_trainer: MakeTrainer) -> None:
    trainer, model, _ = make_trainer(2, {"training.ema_decay": 0.5})
    for _ in range(6):
        trainer.train_step()
    online = _clone(model.blocks[1].state_dict())
    average = _clone(trainer.ema())
    assert _changed(online, {k.removeprefix("network."): v for k, v in average.items()})
    trainer.apply_ema()
    _assert_equal(model.blocks[1].state_dict(), {k[8:]: v for k, v in average.items()})
    # The trained weights are not lost: the next block starts from them.
    tensors = trainer.tensors()
    _assert_equal({key: tensors[f"online/network.{key}"] for key in online}, online)
    _assert_equal({key: tensors[f"average/{key}"] for key in average}, average)


def test_dropout_is_off_once_the_block_is_trained(make_trainer: MakeTrainer) -> None:
    trainer, model, _ = make_trainer(changes={"network.dropout": 0.5, "encoder.hidden": [4]})
    assert model.blocks[0].training
    trainer.train_step()
    trainer.apply_ema()
    assert not model.blocks[0].training
    assert not model.encoder.training


def test_a_trained_block_draws_the_same_velocity_twice(make_trainer: MakeTrainer) -> None:
    trainer, model, _ = make_trainer(changes={"network.dropout": 0.5})
    trainer.train_step()
    trainer.apply_ema()
    x, t, cond = torch.randn(3, *model.chunk_shape), torch.rand(3), torch.randn(3, 6)
    with torch.no_grad():
        assert torch.equal(model.blocks[0](x, t, cond), model.blocks[0](x, t, cond))


# -- validation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"flow.coupling": "independent"}])
def test_validation_changes_nothing(make_trainer: MakeTrainer, changes: dict[str, Any]) -> None:
    results = []
    for validate in (False, True):
        trainer, _, rows = make_trainer(changes={"network.dropout": 0.3, **changes})
        for _ in range(3):
            trainer.train_step()
            if validate:
                trainer.validation_loss(rows, 8)
        results.append(_clone(trainer.tensors()))
    _assert_equal(results[0], results[1])


def test_the_validation_loss_is_that_of_the_averaged_weights(make_trainer: MakeTrainer) -> None:
    changes = {"training.ema_decay": 0.9, "network.dropout": 0.5, "training.learning_rate": 0.1}
    trainer, model, rows = make_trainer(changes=changes)
    for _ in range(5):
        trainer.train_step()
    before = trainer.validation_loss(rows, 16)
    assert trainer.validation_loss(rows, 16) == before  # the same noise always, no dropout
    with torch.no_grad():
        for parameter in model.blocks[0].parameters():
            parameter.add_(1.0)
    assert trainer.validation_loss(rows, 16) == before
    with torch.no_grad():
        for average in trainer.ema().values():
            average.add_(1.0)
    assert trainer.validation_loss(rows, 16) != before


def test_the_validation_loss_is_a_mean_over_windows(make_trainer: MakeTrainer) -> None:
    """A last, smaller batch must not weigh as much as a full one."""
    trainer, _, rows = make_trainer()
    losses, sizes = [], []

    def record(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        losses.append(float(output))
        sizes.append(len(inputs[0]))

    trainer.loss.register_forward_hook(record)
    found = trainer.validation_loss(rows, 10)
    assert sizes == [10] * (len(rows) // 10) + [len(rows) % 10]
    expected = sum(a * b for a, b in zip(losses, sizes, strict=True)) / len(rows)
    assert found == pytest.approx(expected)


# -- state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [{}, {"encoder.hidden": [4]}, {"network.dropout": 0.2, "training.obs_noise": 0.1}],
)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_loaded_state_goes_on_bit_by_bit(
    make_trainer: MakeTrainer, n: int, changes: dict[str, Any], before: int
) -> None:
    # an encoder that is frozen already is no part of the state
    first, *_ = make_trainer(n, changes)
    for _ in range(before):
        first.train_step()
    tensors, numbers = _clone(first.tensors()), first.numbers()
    second, model, _ = make_trainer(n, changes)
    with torch.no_grad():
        for parameter in model.blocks[n - 1].parameters():
            parameter.zero_()
    second.load(tensors, numbers, "test")
    assert second.step == before
    assert second.learning_rate == first.learning_rate
    _assert_equal(second.tensors(), first.tensors())
    for _ in range(4):
        loss, norm = first.train_step()
        assert second.train_step() == (loss, norm)
        assert second.learning_rate == first.learning_rate
    _assert_equal(second.tensors(), first.tensors())
    assert second.numbers() == first.numbers()


def test_loading_what_belongs_to_another_run_is_refused(make_trainer: MakeTrainer) -> None:
    trainer, *_ = make_trainer()
    trainer.train_step()
    tensors, numbers = _clone(trainer.tensors()), trainer.numbers()
    for prefix in ("online", "average", "optimizer"):
        name = next(key for key in tensors if key.startswith(prefix))
        less = {key: value for key, value in tensors.items() if key != name}
        with pytest.raises(InputError, match=f"file: tensor '{name}' is missing"):
            trainer.load(less, numbers, "file")
        other = {**tensors, name: torch.zeros(3, 3, 3)}
        with pytest.raises(InputError, match=rf"file: tensor '{name}' has shape \(3, 3, 3\)"):
            trainer.load(other, numbers, "file")


def test_warm_start_takes_weights_and_average_but_not_the_optimiser(
    make_trainer: MakeTrainer,
) -> None:
    first, *_ = make_trainer(1, {"encoder.hidden": [4]})
    for _ in range(5):
        first.train_step()
    given = _clone(first.tensors())
    second, *_ = make_trainer(2, {"encoder.hidden": [4]})
    second.warm_start(first)
    taken = second.tensors()
    assert taken.keys() == {
        f"{part}/{name}"
        for part in ("online", "average")
        for name in first.ema()
        if name.startswith("network.")
    }
    _assert_equal(taken, {key: given[key] for key in taken})
    assert second.step == 0
    # The average goes on slowly: it does not jump to the first weights of the new block.
    assert second.numbers()["average_steps"] == 5
    # Both are copies.
    second.train_step()
    second.train_step()
    _assert_equal(first.tensors(), given)


def test_weights_that_are_not_finite_are_noticed(make_trainer: MakeTrainer) -> None:
    trainer, model, _ = make_trainer()
    assert trainer.all_finite()
    for value in (math.nan, math.inf):
        with torch.no_grad():
            next(model.blocks[0].parameters()).view(-1)[0] = value
        assert not trainer.all_finite()
