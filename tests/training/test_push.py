from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lfm_policy.checkpoint_folders import CHECKPOINTS
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle, WindowDataset
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.checkpoint import TRAIN_STATE, read_header, read_model_state
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training import TrainingError, train
from lfm_policy.training.accelerator import make_accelerator
from lfm_policy.training.push import BlockPusher
from lfm_policy.training.rows.chunks import ChunkRows
from lfm_policy.training.run_folder.state import read_train_state

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
LoadData = Callable[[ExperimentConfig], DatasetBundle]
MakeModel = Callable[[ExperimentConfig, DatasetBundle], PolicyModel]


def _chunks(folder: Path, checkpoint: str) -> dict[str, Tensor]:
    return read_train_state(folder / CHECKPOINTS / checkpoint / TRAIN_STATE)[2]


def _trained_model(folder: Path) -> PolicyModel:
    """Return the networks of a complete run, which hold averaged weights."""
    header = read_header(folder)
    model = PolicyModel(header.config, header.spec)
    model.load_state_dict(read_model_state(header))
    return model.eval()


@torch.no_grad()
def _push_all(model: PolicyModel, windows: WindowDataset, last: int, solver: SolverSpec) -> Tensor:
    """Push all windows through blocks 1..last as one batch, as the mathematics says."""
    idx = torch.arange(len(windows))
    cond = model.encoder(windows.gather_obs(idx))
    chunks = windows.gather_action(idx)
    return model.chain().push_forward(chunks, cond, solver=solver, last=last).x


HEUN = {"push_forward.solver": "heun", "push_forward.n_steps": 4}


@pytest.mark.parametrize(
    "changes",
    [
        HEUN,
        {**HEUN, "encoder.hidden": [6]},
        {**HEUN, "network.dropout": 0.5},
        {"push_forward.batch_size": 1000},  # dopri5 chooses its steps for a whole batch
    ],
)
def test_every_window_is_pushed_through_the_averaged_blocks(
    make_config: MakeConfig,
    load_data: LoadData,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    changes = {"flow.n_blocks": 3, "training.learning_rate": 0.03, **changes}
    config = make_config(changes, checkpoints=True)
    train(config, tmp_path, quiet=True)
    data, model = load_data(config), _trained_model(tmp_path)
    assert data.validation is not None
    options = config.push_forward
    solver = SolverSpec(options.solver, options.n_steps, options.rtol, options.atol)
    for checkpoint, last in (("block2-train-000000014", 1), ("block3-train-000000024", 2)):
        found = _chunks(tmp_path, checkpoint)
        assert found.keys() == {"train", "validation"}
        for split, windows in (("train", data.train), ("validation", data.validation)):
            expected = _push_all(model, windows, last, solver)
            assert found[split].shape == (len(windows), 4, 2)  # one row per window, in order
            torch.testing.assert_close(found[split], expected, rtol=1e-5, atol=1e-6)
            assert not torch.allclose(expected, windows.gather_action(torch.arange(len(windows))))


def test_not_the_last_trained_weights_push(
    trained: Path, make_config: MakeConfig, load_data: LoadData
) -> None:
    """With the online weights of block 1 the result is another one."""
    data = load_data(make_config())
    found = _chunks(trained, "block2-train-000000019")["train"]
    _, state, _ = read_train_state(
        trained / CHECKPOINTS / "block1-push_forward-000000016" / TRAIN_STATE
    )
    model = _trained_model(trained)
    solver = SolverSpec("dopri5", rtol=1e-2, atol=1e-2)
    with_average = _push_all(model, data.train, 1, solver)
    prefix = "online/network."
    online = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    model.blocks[0].load_state_dict(online)
    with_online = _push_all(model, data.train, 1, solver)
    torch.testing.assert_close(found, with_average, rtol=1e-2, atol=1e-2)
    assert (with_online - with_average).abs().mean() > 3 * (found - with_average).abs().mean()


def test_a_checkpoint_inside_the_push_forward_holds_the_rows_so_far(trained: Path) -> None:
    whole = _chunks(trained, "block2-train-000000019")["train"]
    for rows in (16, 32):
        part = _chunks(trained, f"block1-push_forward-{rows:09d}")
        assert part.keys() == {"pushed"}
        assert torch.equal(part["pushed"], whole[:rows])


# -- the pusher alone -----------------------------------------------------------------------------


@pytest.fixture
def make_pusher(
    make_config: MakeConfig, load_data: LoadData, make_model: MakeModel
) -> Callable[..., tuple[BlockPusher, PolicyModel, ChunkRows]]:
    def make(
        changes: dict[str, Any] | None = None,
    ) -> tuple[BlockPusher, PolicyModel, ChunkRows]:
        config = make_config(changes)
        data = load_data(config)
        model = make_model(config, data)
        accelerator = make_accelerator(config.training, torch.device("cpu"))
        pusher = BlockPusher(model, 1, config.push_forward, accelerator)
        return pusher, model, ChunkRows(data.train)

    return make


MakePusher = Callable[..., tuple[BlockPusher, PolicyModel, ChunkRows]]


@pytest.mark.parametrize("batch_size", [1, 16, 47, 1000])
def test_batches_cover_all_rows_once(make_pusher: MakePusher, batch_size: int) -> None:
    options = {"push_forward.solver": "heun", "push_forward.n_steps": 3}
    pusher, model, source = make_pusher({**options, "push_forward.batch_size": batch_size})
    batches = list(pusher.push(source))
    assert [len(rows) for rows, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(nfe == 6 for _, nfe in batches)
    expected = _push_all(model, source.dataset, 1, SolverSpec("heun", 3))
    torch.testing.assert_close(torch.cat([rows for rows, _ in batches]), expected)


def test_the_cut_into_batches_does_not_depend_on_where_it_began(make_pusher: MakePusher) -> None:
    pusher, _, source = make_pusher()
    whole = torch.cat([rows for rows, _ in pusher.push(source)])
    for begin in (16, 32):
        rest = torch.cat([rows for rows, _ in pusher.push(source, begin)])
        assert torch.equal(rest, whole[begin:])
    assert list(pusher.push(source, len(source))) == []


def test_no_graph_is_kept(make_pusher: MakePusher) -> None:
    pusher, _, source = make_pusher()
    assert not any(rows.requires_grad for rows, _ in pusher.push(source))


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("dopri5", "block 1 cannot be integrated for the push-forward: dopri5 could not"),
        ("euler", "the push-forward through block 1 is not finite"),
    ],
)
def test_a_velocity_that_is_no_number_is_an_error(
    make_pusher: MakePusher, solver: str, message: str
) -> None:
    pusher, model, source = make_pusher({"push_forward.solver": solver})
    with torch.no_grad():
        next(model.blocks[0].parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match=message):
        list(pusher.push(source))
