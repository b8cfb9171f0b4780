"""Trainings that start from a policy: what is kept, what has to fit, what may be new."""

from __future__ import annotations

import shutil
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
from lfm_policy.assets import bundled_demonstrations
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig, InitConfig, config_from_dict, config_to_dict
from lfm_policy.data.dataset import build_datasets
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.errors import InputError
from lfm_policy.flow import METHODS
from lfm_policy.policy import Policy, load_policy, read_header
from lfm_policy.policy.checkpoint import read_normalizer, write_checkpoint
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training import train
from lfm_policy.training.blocks import BlockPlan
from lfm_policy.training.run import Run
from lfm_policy.training.start.source import start_from, tuned_config, with_source
from lfm_runtime.policy.spec import DataSpec

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]
StoppedAt = Callable[..., AbstractContextManager[None]]

FREE = {"flow.n_blocks": 1, "training.block_training": "sequential"}
"""A block that every method can have."""


def _data(path: Path, **arrays: np.ndarray) -> Path:
    write_zarr(path, ReplayBuffer(arrays, np.array([20, 40, 60])))
    return path


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return demonstrations that observe ``force`` and ``above`` besides ``position``."""
    generator = np.random.default_rng(5)
    shapes = {"above": 2, "action": 2, "force": 4, "position": 3}
    arrays = {k: generator.normal(size=(60, n)).astype(np.float32) for k, n in shapes.items()}
    return _data(tmp_path_factory.mktemp("more") / "more.zarr", **arrays)


def started(config: ExperimentConfig, source: Path, folder: Path) -> Run:
    """Return a run that has taken up the weights of its source, and no step."""
    header = read_header(source)
    run = Run(with_source(config, header), folder, device="cpu", quiet=True, source=header)
    BlockPlan(run)
    return run


def chunks(policy: Policy, obs: dict[str, Tensor]) -> Tensor:
    """Return what a policy would do, without a prefix."""
    noise = torch.randn(8, *policy.model.chunk_shape, generator=torch.Generator().manual_seed(1))
    size = policy.config.policy.max_prefix
    prefix = torch.zeros(8, size, 2), torch.zeros(8, size)
    return policy.pipeline(obs, noise, prefix if size else None)


OBS_NEW = {
    "dataset.obs_keys": ["above", "force", "position"],
    "init.new_obs": "add",
}


@pytest.mark.parametrize("hidden", [[], [6]])
@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("network", ["mlp", "transformer", "unet1d"])
def test_new_observations_change_nothing_at_first(
    make_config: MakeConfig,
    more: Path,
    tmp_path: Path,
    hidden: list[int],
    prefix: int,
    network: str,
) -> None:
    sizes = {
        "mlp": {"width": 16, "n_layers": 1},
        "transformer": {"width": 8, "n_layers": 1, "n_heads": 2},
        "unet1d": {"channels": [8, 8], "n_groups": 4, "embed_dim": 8, "time_embed_dim": 8},
    }
    common = {
        "encoder.hidden": hidden,
        "policy.max_prefix": prefix,
        "network": {"name": network, **sizes[network]},
        "training.total_steps": 4,
        "policy.clip_actions": False,
    }
    train(make_config(common), tmp_path / "source", device="cpu", quiet=True)
    known = load_policy(tmp_path / "source")
    steps = {"training.total_steps": 20, "training.learning_rate": 0.05}
    config = make_config({**common, **steps, **OBS_NEW, "dataset.path": str(more)})
    run = started(config, tmp_path / "source", tmp_path / "tuned")
    assert list(run.spec.obs_shapes) == ["above", "force", "position"]
    generator = torch.Generator().manual_seed(0)
    obs = {
        key: torch.randn(8, 2, *shape, generator=generator)
        for key, shape in run.spec.obs_shapes.items()
    }
    before = chunks(known, {"position": obs["position"]})
    assert before.std() > 0.01
    tuned = Policy(run.config, run.spec, run.model, run.data.normalizer)
    torch.testing.assert_close(chunks(tuned, obs), before, rtol=1e-5, atol=1e-5)
    # And they can be learned from.
    train(config, tmp_path / "tuned", device="cpu", init_from=tmp_path / "source", quiet=True)
    policy = load_policy(tmp_path / "tuned")
    other = {**obs, "force": obs["force"] + 1}
    assert not torch.equal(chunks(policy, obs), chunks(policy, other))


def test_a_new_camera_comes_between(tmp_path: Path) -> None:
    image = {"name": "compact", "width": 8, "resize": [], "crop": []}
    options = {
        "policy": {"n_obs_steps": 2, "horizon": 4, "n_action_steps": 2, "clip_actions": False},
        "encoder": {"name": "cameras", "image": image},
        "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 2},
    }
    config = config_from_dict(options, "test")
    shapes = {"b_camera": (16, 16, 3), "d_camera": (16, 16, 3), "position": (3,)}
    generator = np.random.default_rng(0)
    arrays = {key: generator.normal(size=(9, n)) for key, n in {"action": 2, "position": 3}.items()}
    normalizer = Normalizer.fit(arrays)

    def drawn(spec: DataSpec) -> PolicyModel:
        model = PolicyModel(config, spec)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        return model

    spec = DataSpec(shapes, 2)
    model = drawn(spec)
    (tmp_path / "source").mkdir()
    write_checkpoint(
        tmp_path / "source",
        config=config,
        spec=spec,
        model_state=model.state_dict(),
        normalizer=normalizer,
        training={
            "complete": True,
            "steps": 2,
            "train_seconds": 0.0,
            "push_seconds": 0.0,
            "block_steps": [1, 1],
            "blocks": [{"steps": 1, "train_seconds": 0.0, "push_seconds": 0.0}] * 2,
            "parameters": {},
        },
    )
    new = DataSpec({"c_camera": (16, 16, 3), **shapes}, 2)
    wider = drawn(new)
    adding = replace(config, init=InitConfig(new_obs="add"))
    start_from(read_header(tmp_path / "source"), wider, adding, new)
    frames = torch.randint(0, 256, (3, 5, 2, 16, 16, 3), dtype=torch.uint8)
    obs = dict(zip(("b_camera", "c_camera", "d_camera"), frames, strict=True))
    obs["position"] = torch.randn(5, 2, 3)
    noise = torch.randn(5, 4, 2)
    found, expected = (
        Policy(config, own, networks, normalizer).pipeline(
            {key: obs[key] for key in own.obs_shapes}, noise
        )
        for own, networks in ((new, wider), (spec, model))
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS.names())
def test_how_a_method_learns_may_be_another(
    trained: Path, make_config: MakeConfig, method: str
) -> None:
    """What networks learnt is the same, whatever outweighed what."""
    before = METHODS.get(method)()
    header = read_header(trained)
    source = replace(header, config=make_config({"flow.method": method, **FREE}))
    other = {
        "error_scale": 0.1,
        "error_power": 1.5,
        "equal_share": 0.3,
        "whole_share": 0.2,
        "rule": "semigroup",
        "finest_steps": 32,
        "delta": 0.01,
        "alpha": 0.1,
        "clip_sample": False,
        "clip_range": 2.0,
        "clip_any": True,
        "spacing": "trailing",
    }
    changed = {name: other[name] for name in before.LEARNING}
    assert all(getattr(before, name) != value for name, value in changed.items())
    config = make_config({"flow.method": {"name": method, **changed}, **FREE})
    assert with_source(config, source).init.source == source.sha256


def test_what_does_not_fit_is_refused(
    trained: Path, make_config: MakeConfig, more: Path, tmp_path: Path
) -> None:
    def refused(changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            folder = tmp_path / "run"
            train(make_config(changes), folder, device="cpu", init_from=trained, quiet=True)
        assert not (tmp_path / "run").exists()

    path = {"dataset.path": str(more)}
    refused(
        {**path, **OBS_NEW, "init.new_obs": "refuse"}, "observations above, force are new to it"
    )
    refused({**path, "dataset.obs_keys": ["force"]}, "observations position are missing")
    renamed = {"dataset.rename": {"force": "position"}, "dataset.obs_keys": ["force"]}
    refused({**path, **renamed}, r"'position' has shape \(4,\), expected \(3,\)")
    wide = _data(
        tmp_path / "wide.zarr",
        action=np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32),
        position=np.zeros((60, 3), np.float32),
    )
    refused({"dataset.path": str(wide)}, "actions have 3 numbers, expected 2")
    refused({"policy.horizon": 5}, "policy.horizon is 5, expected 4")
    refused({"encoder.history": "differences"}, "encoder.history is 'differences', expected")
    refused({"flow.n_blocks": 3}, "flow.n_blocks is 3, expected 2")
    refused({"flow.c": 0.2}, "flow.c is 0.2, expected 0.3")
    refused({"flow.method": "data"}, "flow.method.name is 'data', expected 'velocity'")
    refused({"network.width": 8}, "network.width is 8, expected 16")
    refused({"encoder.hidden": [4]}, r"encoder.hidden is \[4\], expected \[\]")


def test_blocks_start_from_the_weights_of_the_source(
    trained: Path, make_config: MakeConfig, other_demonstrations: Path, tmp_path: Path, weights: Any
) -> None:
    changes = {"dataset.path": str(other_demonstrations), "training.learning_rate": 0.0}
    config = make_config({**changes, "training.weight_decay": 0.0})
    train(config, tmp_path / "run", device="cpu", init_from=trained, quiet=True)
    # Not even a warm start has put block 1 in the place of block 2.
    kept, found = weights(trained), weights(tmp_path / "run")
    for name in kept:
        torch.testing.assert_close(found[name], kept[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_an_encoder_may_be_frozen(
    make_config: MakeConfig, other_demonstrations: Path, tmp_path: Path, freeze: bool, joint: bool
) -> None:
    learns = {"training.encoder": "joint", "training.encoder_steps": 4} if joint else {}
    options = {"encoder.hidden": [6], "training.total_steps": 8, **learns}
    train(make_config(options), tmp_path / "source", device="cpu", quiet=True)
    changes = {
        "dataset.path": str(other_demonstrations),
        "init.encoder": "freeze" if freeze else "train",
    }
    config = make_config({**options, **changes})
    train(config, tmp_path / "run", device="cpu", init_from=tmp_path / "source", quiet=True)
    states = [
        load_policy(tmp_path / name).pipeline.model.encoder.state_dict()
        for name in ("source", "run")
    ]
    same = [torch.equal(states[0][key], states[1][key]) for key in states[0]]
    assert all(same) == freeze


def test_the_normaliser(
    trained: Path, make_config: MakeConfig, other_demonstrations: Path, tmp_path: Path
) -> None:
    before = read_normalizer(read_header(trained))
    for mode in ("keep", "refit"):
        changes = {"dataset.path": str(other_demonstrations), "init.normalizer": mode}
        train(make_config(changes), tmp_path / mode, device="cpu", init_from=trained, quiet=True)
    kept, refit = (read_normalizer(read_header(tmp_path / mode)) for mode in ("keep", "refit"))
    for key in ("action", "position"):
        assert torch.equal(kept[key].scale, before[key].scale)
        assert torch.equal(kept[key].offset, before[key].offset)
        assert torch.equal(kept[key].min, torch.minimum(before[key].min, refit[key].min))
        assert torch.equal(kept[key].max, torch.maximum(before[key].max, refit[key].max))
        assert not torch.equal(refit[key].scale, before[key].scale)
    # A student of it sees what it saw.
    overrides = ["training.total_steps=4", "distill.samples=1"]
    student = distill(tmp_path / "keep", nfe=2, overrides=overrides, device="cpu", quiet=True)
    same = read_normalizer(read_header(student))
    assert torch.equal(same["action"].scale, before["action"].scale)
    assert read_header(student).config.init.source == ""


def test_data_far_outside_are_warned_of(
    trained: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    far = _data(
        tmp_path / "far.zarr",
        action=generator.normal(size=(60, 2)).astype(np.float32),
        position=(100 + generator.normal(size=(60, 3))).astype(np.float32),
    )
    with pytest.warns(UserWarning, match="lies far outside of the data that the policy knows"):
        started(make_config({"dataset.path": str(far)}), trained, tmp_path / "run")


def test_what_is_beyond_a_range() -> None:
    known = Normalizer.fit({"x": np.array([[0.0], [4.0]]), "y": np.array([0.0, 1.0])})
    found = Normalizer.fit({"x": np.array([[-1.0], [5.0]]), "y": np.array([0.25, 1.0])})
    assert found.beyond(known) == {"x": pytest.approx(0.5)}
    both = found.keeping(known)
    assert both["x"].min == -1 and both["x"].max == 5 and both["x"].scale == known["x"].scale
    assert both["y"].min == 0 and both["y"].max == 1
    assert both.keeping(known).state_tensors().keys() == both.state_tensors().keys()


def test_it_goes_on_without_its_source(
    trained: Path,
    make_config: MakeConfig,
    other_demonstrations: Path,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
) -> None:
    source = Path(shutil.copytree(trained, tmp_path / "source"))
    config = make_config({"dataset.path": str(other_demonstrations)})
    train(config, tmp_path / "whole", device="cpu", init_from=source, quiet=True)
    with stopped_at(2, 3):
        train(config, tmp_path / "run", device="cpu", init_from=source, quiet=True)
    digest = read_header(source).sha256
    shutil.rmtree(source)
    assert main(["train", "--resume", str(tmp_path / "run"), "--device", "cpu", "--quiet"]) == 0
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    header = read_header(tmp_path / "run")
    assert header.config.init.source == digest
    # Its options say what it started from, and that this is needed to start again.
    train(config, tmp_path / "run", device="cpu", resume=True, quiet=True)
    with pytest.raises(InputError, match="is not given: add --init-from CHECKPOINT"):
        train(header.config, tmp_path / "again", device="cpu", quiet=True)
    other = {"device": "cpu", "init_from": "pusht-state", "resume": True, "quiet": True}
    with pytest.raises(InputError, match="has other networks than configured: policy.horizon is 4"):
        train(config, tmp_path / "run", **other)


def test_blocks_in_processes(
    trained: Path,
    make_config: MakeConfig,
    other_demonstrations: Path,
    tmp_path: Path,
    assert_same_weights: AssertSame,
    workers: list[int],
) -> None:
    parallel = {"training.block_training": "parallel", "training.warm_start": False}
    for name, processes in (("one", 1), ("two", 2)):
        options = {**parallel, "training.parallel_processes": processes}
        config = make_config({**options, "dataset.path": str(other_demonstrations)})
        train(config, tmp_path / name, device="cpu", init_from=trained, quiet=True)
    assert workers == [1, 2]
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def test_options_without_a_policy(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none is given: add --init-from CHECKPOINT"):
        train(make_config({"init.encoder": "freeze"}), tmp_path / "run", quiet=True)


def test_from_the_command_line_and_from_python(
    trained: Path,
    other_demonstrations: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    assert_same_weights: AssertSame,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"dataset.path={other_demonstrations}"
    assert main(["train", "--init-from", str(trained), path, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert f"starts from {read_header(trained).folder}, with its normaliser\n" in out
    run = tmp_path / "runs" / "tiny-tuned"
    header = read_header(run)
    assert header.config.training.total_steps == 3  # a tenth
    lfm_policy.train(
        init_from=lfm_policy.load_policy(trained),
        dataset=other_demonstrations,
        output=tmp_path / "python",
        device="cpu",
        quiet=True,
    )
    assert_same_weights(tmp_path / "python", run)
    assert main(["train", "--init-from", str(tmp_path / "nothing")]) == 2
    assert "no such checkpoint or run folder" in capsys.readouterr().err


# -- a goal elsewhere -----------------------------------------------------------------------------

MOVED = np.array([40.0, -30.0])
"""Pixels by which all that PushT demonstrations show is moved, the goal too."""


def _moved_demonstrations(path: Path, first: int, last: int) -> Path:
    """Write some of the bundled demonstrations, with the goal elsewhere."""
    known = ZarrConfig(path=str(bundled_demonstrations()), obs_keys=["state"]).load()
    begin, ends = known.episode_starts[first], known.episode_ends[first:last]
    state = known.arrays["state"][begin : ends[-1]] + np.array([*MOVED, *MOVED, 0.0])
    action = known.arrays["action"][begin : ends[-1]] + MOVED
    arrays = {"action": action.astype(np.float32), "state": state.astype(np.float32)}
    write_zarr(path, ReplayBuffer(arrays, ends - begin))
    return path


def _errors(policy: Policy, path: Path) -> np.ndarray:
    """Return the mean distance of executed actions from demonstrated ones by episode, in pixels."""
    config = policy.config
    options = config_to_dict(config)["dataset"] | {"path": str(path), "validation_ratio": 0.0}
    dataset = config_from_dict({"dataset": options}, "test").dataset
    data = build_datasets(dataset, 2, 16, 8, kept=policy.pipeline.normalizer)
    rows = torch.arange(0, len(data.train), 8)
    noise = torch.randn(len(rows), 16, 2, generator=torch.Generator().manual_seed(0))
    chunk = policy.pipeline.sample(data.train.gather_obs(rows), noise, None).chunk
    shown = policy.pipeline.normalizer.unnormalize("action", data.train.gather_action(rows))
    distance = (chunk - shown)[:, 1:9].norm(dim=-1).mean(dim=1).numpy()
    ends = ZarrConfig(path=str(path), obs_keys=["state"]).load().episode_ends
    episode = np.searchsorted(ends, data.train.index.indices[rows.numpy(), 1], side="right")
    return np.array([distance[episode == e].mean() for e in range(len(ends))])


def test_a_bundled_student_learns_a_goal_elsewhere(tmp_path: Path) -> None:
    shown = _moved_demonstrations(tmp_path / "shown.zarr", 0, 20)
    held_out = _moved_demonstrations(tmp_path / "held_out.zarr", 20, 32)
    source = read_header("pusht-state")
    overrides = [
        f"dataset.path={shown}",
        "dataset.validation_ratio=0",
        "training.total_steps=200",
        "training.learning_rate=0.001",
        "training.warmup_steps=10",
        "training.batch_size=64",
    ]
    config = tuned_config(source, overrides)
    assert config.name == "pusht-lfm3-unet-nfe2-tuned" and config.sampler.nfe == 2
    for name, init_from in (("tuned", "pusht-state"), ("from nothing", None)):
        train(config, tmp_path / name, device="cpu", init_from=init_from, quiet=True)
    before, tuned, nothing = (
        _errors(load_policy(path), held_out)
        for path in ("pusht-state", tmp_path / "tuned", tmp_path / "from nothing")
    )
    assert load_policy(tmp_path / "tuned").nfe == 2
    # Of the same episodes, nearly all are met better, and by far.
    assert np.mean(tuned < nothing) > 0.9 and tuned.mean() < 0.6 * nothing.mean()
    assert np.mean(tuned < before) > 0.9 and tuned.mean() < 0.7 * before.mean()
