"""Gradient steps that a GPU replays: what may be recorded, and that it is the same training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle
from lfm_policy.errors import TrainingError
from lfm_policy.flow import METHODS
from lfm_policy.flow.ema import EMA
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.accelerator import make_accelerator
from lfm_policy.training.blocks import BlockLoss
from lfm_policy.training.recorded import WARM_UP, RecordedStep
from lfm_policy.training.rows.chunks import ChunkRows
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.trainer import Part, Trainer

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
OperationsOf = Callable[[Callable[[], object]], list[str]]
Looks = Callable[[list[str]], list[str]]
LoadData = Callable[[ExperimentConfig], DatasetBundle]
MakeModel = Callable[[ExperimentConfig, DatasetBundle], PolicyModel]
MakeTrainer = Callable[..., Trainer]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


CASES = [
    *[{"flow.method": name} for name in METHODS.names()],
    {"flow.method": {"name": "velocity", "error_scale": 0.1, "error_power": 1.5}},
    {"flow.method": {"name": "flow_map", "rule": "eulerian"}},
    {"flow.method": {"name": "flow_map", "rule": "semigroup"}},
    {"flow.time": {"name": "beta", "alpha": 2.0, "beta": 1.0, "noise_share": 0.5}},
    {"flow.coupling": "shuffled"},
    {"flow.coupling": "independent"},
    {"training.obs_noise_covariance": "data"},
    {"network": {"name": "unet1d", "channels": [8, 16], "n_groups": 4}},
    {"network": {"name": "transformer", "width": 8, "n_layers": 1, "n_heads": 2}},
    {"network.dropout": 0.1},
    {"flow.drop_obs": 0.2},
]


@pytest.fixture
def make_trainer(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel
) -> MakeTrainer:
    """Return a function that makes the trainer of the only block of a policy."""

    def make(changes: dict[str, Any], device: str = "cpu", **training: Any) -> Trainer:
        every = {"flow.n_blocks": 1, "flow.step_sizes": [], "sampler.nfe": 4}
        every |= {f"training.{key}": value for key, value in training.items()}
        config = make_config(every | changes)
        data = load_data(config)
        model = make_model(config, data).to(device)
        train_set = data.train.to(device)
        rows = ChunkRows(
            train_set,
            obs_noise=ObsNoise(config.training, train_set),
            draws_other=model.flow_block(1).needs_other,
        )
        accelerator = make_accelerator(config.training, torch.device(device))
        loss = BlockLoss(model, 1, trains_encoder=False)
        return Trainer(Part(1, loss, rows, None, 40, config.training), accelerator, seed=1)

    return make


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_what_says_so_is_the_same_work_for_every_batch(
    make_trainer: MakeTrainer, changes: dict[str, Any], operations_of: OperationsOf, looks: Looks
) -> None:
    trainer = make_trainer(changes)
    assert trainer.loss.same_work
    assert trainer._rows.same_work
    found = []
    for begin in (0, 5, 9):
        idx = torch.arange(begin, begin + 8)
        found.append(
            operations_of(
                lambda idx=idx: trainer.loss(*trainer._rows.batch(idx, training=True)).backward()
            )
        )
        trainer.loss.zero_grad(set_to_none=True)
    assert found[1] == found[2]  # before the first, what is kept for later is made
    assert len(found[1]) > 20
    assert not looks(found[1])


def test_optimal_couplings_are_not_recorded(make_trainer: MakeTrainer) -> None:
    assert not make_trainer({"flow.coupling": "optimal"}).loss.same_work


def test_prefixes_are_found_without_a_look_at_any_value(
    make_config: MakeConfig,
    load_data: LoadData,
    make_model: MakeModel,
    operations_of: Callable[[Callable[[], object]], list[str]],
    looks: Callable[[list[str]], list[str]],
) -> None:
    from lfm_policy.training.rows.prefixes import TrainingPrefixes

    config = make_config({"policy.max_prefix": 2})
    data = load_data(config)
    model = make_model(config, data)
    assert model.prefix is not None
    rows = ChunkRows(data.train, prefixes=TrainingPrefixes(model.prefix, len(data.train), 0))
    assert rows.same_work
    found = []
    for first in (0, 4):
        idx = torch.arange(first, first + 4)
        found.append(operations_of(lambda idx=idx: rows.batch(idx, training=True)))
    assert found[0] == found[1] and len(found[0]) > 10
    assert not looks(found[0])


def test_steps_on_a_cpu_are_not_recorded(make_trainer: MakeTrainer) -> None:
    assert make_trainer({}, cuda_graphs=True)._recorded is None


def test_the_average_moves_alike_with_a_decay_on_the_device() -> None:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(5))]
    one = EMA(parameters, decay=0.9, power=0.75)
    other = EMA(parameters, decay=0.9, power=0.75)
    for _ in range(6):
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(torch.randn_like(parameter))
        one.update()
        other.update_with(torch.tensor(other.next_decay()))
    assert one.steps == other.steps == 6
    for first, second in zip(one.weights, other.weights, strict=True):
        torch.testing.assert_close(first, second)


# -- on a GPU ----------------------------------------------------------------------------------


def _train(trainer: Trainer, steps: int) -> Tensor:
    losses = []
    for _ in range(steps):
        loss, norm = trainer.train_step()
        losses.append(torch.stack([loss.clone(), norm.clone()]))
    return torch.stack(losses).cpu()


@needs_gpu
@pytest.mark.parametrize("changes", CASES, ids=str)
def test_replayed_steps_train_as_others_do(
    make_trainer: MakeTrainer, changes: dict[str, Any]
) -> None:
    replayed = make_trainer(changes, "cuda", cuda_graphs=True)
    plain = make_trainer(changes, "cuda", cuda_graphs=False)
    assert replayed._recorded is not None and plain._recorded is None
    assert WARM_UP < 12
    found, expected = _train(replayed, 12), _train(plain, 12)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-5)
    for name, weight in plain.ema().items():
        torch.testing.assert_close(replayed.ema()[name], weight, rtol=1e-2, atol=1e-4)


@needs_gpu
def test_a_continued_run_replays_the_same_steps(make_trainer: MakeTrainer) -> None:
    whole = make_trainer({}, "cuda")
    expected = _train(whole, 20)
    begun = make_trainer({}, "cuda")
    _train(begun, 9)
    again = make_trainer({}, "cuda")
    again.load(begun.tensors(), begun.numbers(), "")
    torch.testing.assert_close(_train(again, 11), expected[9:], rtol=2e-3, atol=1e-5)


@needs_gpu
def test_bf16_steps_are_replayed(make_trainer: MakeTrainer) -> None:
    replayed = make_trainer({}, "cuda", mixed_precision="bf16")
    plain = make_trainer({}, "cuda", mixed_precision="bf16", cuda_graphs=False)
    assert replayed._recorded is not None
    torch.testing.assert_close(_train(replayed, 12), _train(plain, 12), rtol=5e-2, atol=1e-2)


@needs_gpu
def test_work_that_looks_at_values_is_an_error_that_says_what_to_do() -> None:
    def work(x: Tensor) -> tuple[Tensor]:
        return (x * float(x.sum()),)

    step = RecordedStep(work)
    for _ in range(WARM_UP):
        step(torch.ones(3, device="cuda"))
    with pytest.raises(TrainingError, match="cuda_graphs=false"):
        step(torch.ones(3, device="cuda"))
