"""Trainings that take the encoder of a policy and have blocks of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lfm_policy
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig, config_to_yaml
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.encoders.cameras import CamerasEncoder
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy, read_header
from lfm_policy.training import BlockPlan, Run, train
from lfm_policy.training.start.encoder import other_tasks
from lfm_policy.training.start.source import with_source

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
StoppedAt = Callable[..., AbstractContextManager[None]]

ENDS = np.array([11, 20, 32])
NEW = {
    "init.blocks": "new",
    "init.encoder": "freeze",
    "policy.horizon": 8,
    "flow.n_blocks": 3,
    "flow.step_sizes": [0.1, 0.3],
    "flow.method": {"name": "velocity", "error_scale": 0.1},
    "network": {"name": "unet1d", "channels": [8, 8], "n_groups": 2, "kernel_size": 3},
    "training.total_steps": 9,
}
"""Blocks of another kind and number, for longer chunks."""


def _cameras(path: Path, names: tuple[str, ...], *, size: int = 20, n_actions: int = 2) -> str:
    generator = np.random.default_rng(len(names))
    arrays = {
        "action": generator.normal(size=(32, n_actions)).astype(np.float32),
        "position": generator.normal(size=(32, 3)).astype(np.float32),
    }
    for name in names:
        arrays[name] = generator.integers(0, 255, (32, size, size, 3), np.uint8)
    write_zarr(path, ReplayBuffer(arrays, ENDS))
    return str(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoder")


@pytest.fixture(scope="module")
def config_of(make_config: MakeConfig, root: Path) -> MakeConfig:
    """Return a function that makes an experiment that sees cameras."""
    _cameras(root / "data.zarr", ("front", "wrist"))

    def make(
        *changes: dict[str, Any], keys: tuple[str, ...] = ("front", "wrist", "position")
    ) -> Any:
        options: dict[str, Any] = {
            "dataset.path": str(root / "data.zarr"),
            "dataset.obs_keys": list(keys),
            "encoder.name": "cameras",
            "encoder.image": {"name": "compact", "width": 4, "keypoints": 3, "crop": [16, 16]},
            "training.encoder": "joint",
            "training.encoder_steps": 4,
            "training.encoder_batch_size": 4,
            "training.total_steps": 4,
        }
        for change in changes:
            options |= change
        if "encoder" in options:
            options = {k: v for k, v in options.items() if not k.startswith("encoder.")}
        return make_config(options)

    return make


@pytest.fixture(scope="module")
def source(config_of: MakeConfig, root: Path) -> Path:
    """Return the run of a policy that has learnt to see."""
    train(config_of(), root / "source", device="cpu", quiet=True)
    return root / "source"


def encoder_of(run: Path) -> dict[str, Tensor]:
    return load_policy(run).pipeline.model.encoder.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def started(config: ExperimentConfig, source: Path, folder: Path) -> Run:
    """Return a training whose weights are drawn and taken, before its first step."""
    header = read_header(source)
    run = Run(with_source(config, header), folder, device="cpu", source=header, quiet=True)
    BlockPlan(run)
    return run


def test_blocks_may_be_others(config_of: MakeConfig, source: Path, tmp_path: Path) -> None:
    policy = lfm_policy.train(
        config_of(NEW), init_from=source, output=tmp_path / "run", device="cpu", quiet=True
    )
    assert same(encoder_of(tmp_path / "run"), encoder_of(source))
    header = read_header(tmp_path / "run")
    assert header.config.init.source == read_header(source).sha256
    assert header.config.flow.n_blocks == 3 and header.config.network.name == "unet1d"
    obs = {
        "front": np.zeros((2, 20, 20, 3), np.uint8),
        "wrist": np.zeros((2, 20, 20, 3), np.uint8),
        "position": np.zeros((2, 3), np.float32),
    }
    assert policy.sample({key: value[None] for key, value in obs.items()}).chunk.shape == (1, 8, 2)
    # A student of it is a policy like any other.
    overrides = ["training.total_steps=4", "distill.samples=1"]
    student = distill(tmp_path / "run", nfe=1, overrides=overrides, device="cpu", quiet=True)
    assert read_header(student).config.init.source == ""
    assert same(encoder_of(student), encoder_of(source))


def test_blocks_start_as_without_a_policy(
    config_of: MakeConfig, source: Path, tmp_path: Path
) -> None:
    fresh = Run(config_of(NEW, {"init": {}}), tmp_path / "fresh", device="cpu", quiet=True)
    BlockPlan(fresh)
    run = started(config_of(NEW), source, tmp_path / "run")
    assert same(run.model.blocks.state_dict(), fresh.model.blocks.state_dict())
    assert same(run.model.encoder.state_dict(), encoder_of(source))


def test_a_block_starts_from_the_one_before_it(
    config_of: MakeConfig, source: Path, tmp_path: Path
) -> None:
    still = {"training.learning_rate": 0.0, "training.weight_decay": 0.0}
    for name, warm in (("warm", True), ("cold", False)):
        config = config_of(NEW, still, {"training.warm_start": warm})
        train(config, tmp_path / name, device="cpu", init_from=source, quiet=True)
        blocks = load_policy(tmp_path / name).pipeline.model.blocks
        assert same(blocks[0].state_dict(), blocks[2].state_dict()) == warm


def test_the_encoder_may_go_on_learning(
    config_of: MakeConfig, source: Path, tmp_path: Path
) -> None:
    config = config_of(NEW, {"init.encoder": "train"})
    run = started(config, source, tmp_path / "begin")
    assert same(run.model.encoder.state_dict(), encoder_of(source))
    train(config, tmp_path / "run", device="cpu", init_from=source, quiet=True)
    assert not same(encoder_of(tmp_path / "run"), encoder_of(source))


def test_actions_and_numbers_may_be_others(
    config_of: MakeConfig, source: Path, tmp_path: Path
) -> None:
    path = _cameras(tmp_path / "arms.zarr", ("front", "wrist"), n_actions=5)
    config = config_of(NEW, {"dataset.path": path}, keys=("front", "wrist"))
    train(config, tmp_path / "run", device="cpu", init_from=source, quiet=True)
    assert read_header(tmp_path / "run").spec.action_dim == 5
    assert same(encoder_of(tmp_path / "run"), encoder_of(source))


def test_cameras_that_come_and_go(config_of: MakeConfig, source: Path, tmp_path: Path) -> None:
    names = ("above", "wrist", "position")
    path = _cameras(tmp_path / "moved.zarr", ("above", "wrist"))
    config = config_of(NEW, {"dataset.path": path, "init.encoder": "train"}, keys=names)
    encoder = started(config, source, tmp_path / "run").model.encoder
    before = load_policy(source).pipeline.model.encoder
    assert isinstance(encoder, CamerasEncoder) and isinstance(before, CamerasEncoder)
    known, new = before.image_encoder("wrist"), encoder.image_encoder("wrist")
    assert same(new.state_dict(), known.state_dict())
    drawn = encoder.image_encoder("above").state_dict()
    assert not same(drawn, before.image_encoder("front").state_dict())
    frozen = config_of(NEW, {"dataset.path": path}, keys=names)
    with pytest.raises(InputError, match="cameras above are new to it, and it is not to learn"):
        started(frozen, source, tmp_path / "frozen")


def test_what_it_cannot_see_is_refused(config_of: MakeConfig, source: Path, tmp_path: Path) -> None:
    def refused(match: str, *changes: dict[str, Any], keys: tuple[str, ...]) -> None:
        with pytest.raises(InputError, match=match):
            started(config_of(NEW, *changes, keys=keys), source, tmp_path / "run")

    large = _cameras(tmp_path / "large.zarr", ("front", "wrist"), size=24)
    keys = ("front", "wrist")
    refused(
        r"'front' has shape \(24, 24, 3\), expected \(20, 20, 3\)",
        {"dataset.path": large},
        keys=keys,
    )
    other = {"dataset.path": _cameras(tmp_path / "other.zarr", ("side",))}
    refused(r"it sees front, wrist, these data side \(dataset.rename\)", other, keys=("side",))


def test_layers_over_all_observations(config_of: MakeConfig, tmp_path: Path) -> None:
    layers = {"encoder.hidden": [6]}
    train(config_of(layers), tmp_path / "source", device="cpu", quiet=True)
    source = tmp_path / "source"
    train(config_of(NEW, layers), tmp_path / "run", device="cpu", init_from=source, quiet=True)
    assert same(encoder_of(tmp_path / "run"), encoder_of(source))
    keys = ("front", "wrist")
    with pytest.raises(InputError, match="observations are front, wrist, expected front, .*posi"):
        started(config_of(NEW, layers, keys=keys), source, tmp_path / "keys")
    header = read_header(source)
    known = replace(header, spec=replace(header.spec, tasks=("fold", "stack")))
    told = replace(header.spec, tasks=("stack", "fold"))
    assert other_tasks(known, told) == [
        "tasks are stack, fold, expected fold, stack in this order (dataset.tasks)"
    ]
    assert other_tasks(known, known.spec) == other_tasks(header, told) == []
    with pytest.raises(InputError, match=r"policy.n_obs_steps is 1, expected 2"):
        started(config_of(NEW, layers, {"policy.n_obs_steps": 1}), source, tmp_path / "frames")


def test_its_options_are_the_policys(config_of: MakeConfig, source: Path) -> None:
    header = read_header(source)
    wide = config_of(NEW, {"encoder.image": {"name": "compact", "width": 8}})
    with pytest.warns(UserWarning, match=r"whatever is configured: encoder.image.width is 4, and"):
        assert with_source(wide, header).encoder == header.config.encoder
    # A configuration for numbers says nothing of cameras.
    numbers = {"encoder": {"name": "state"}, "training.encoder": "auto"}
    state = config_of(NEW, {"init.encoder": "train"}, numbers)
    with pytest.raises(InputError, match="'state', does not say how it goes on learning: leave it"):
        with_source(state, header)
    frozen = replace(state, init=replace(state.init, encoder="freeze"))
    assert with_source(frozen, header).encoder == header.config.encoder


def test_a_policy_without_an_encoder_that_learns(
    trained: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'state' has no weights, so that with init.blocks=new"):
        train(make_config(NEW), tmp_path / "run", device="cpu", init_from=trained, quiet=True)


def test_it_goes_on_and_cannot_be_sampled_before_all_blocks_have_learnt(
    config_of: MakeConfig, source: Path, tmp_path: Path, stopped_at: StoppedAt
) -> None:
    config = config_of(NEW)
    train(config, tmp_path / "whole", device="cpu", init_from=source, quiet=True)
    with stopped_at(2, 2):
        train(config, tmp_path / "run", device="cpu", init_from=source, quiet=True)
    with pytest.raises(InputError, match="training has not reached block 3 of 3 yet"):
        load_policy(tmp_path / "run")
    assert main(["train", "--resume", str(tmp_path / "run"), "--device", "cpu", "--quiet"]) == 0
    states = [load_policy(tmp_path / name).pipeline.model.state_dict() for name in ("whole", "run")]
    assert same(*states)


def test_from_the_command_line(
    config_of: MakeConfig, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "blocks.yaml"
    written.write_text(config_to_yaml(config_of(NEW)), encoding="utf-8")
    begin = ["train", "--init-from", str(source), "--device", "cpu", "--output"]
    assert main([*begin, str(tmp_path / "run"), str(written)]) == 0
    folder = read_header(source).folder
    assert (
        f"starts from the encoder of {folder} (cameras), which is frozen, with its normaliser; its "
        "blocks are new\n"
    ) in capsys.readouterr().out
    assert main([*begin, str(tmp_path / "none"), "init.blocks=new"]) == 2
    assert "give a configuration that says the blocks" in capsys.readouterr().err
    with pytest.raises(InputError, match="give a configuration that says the blocks"):
        lfm_policy.train(init_from=source, output=tmp_path / "none", init={"blocks": "new"})
    assert not (tmp_path / "none").exists()


def test_blocks_in_processes(
    config_of: MakeConfig, source: Path, tmp_path: Path, workers: list[int]
) -> None:
    parallel = {"training.block_training": "parallel", "training.warm_start": False}
    options = {**NEW, **parallel, "training.encoder": "block1"}
    for name, processes in (("one", 1), ("two", 2)):
        config = config_of(options, {"training.parallel_processes": processes})
        train(config, tmp_path / name, device="cpu", init_from=source, quiet=True)
    assert workers == [1, 2, 3]
    states = [load_policy(tmp_path / name).pipeline.model.state_dict() for name in ("one", "two")]
    assert same(*states)
    assert same(encoder_of(tmp_path / "two"), encoder_of(source))
