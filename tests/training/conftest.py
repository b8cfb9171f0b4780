"""A tiny learnable data set and tiny experiments on it, for all tests of training."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lfm_policy.checkpoint_folders import find_checkpoint
from lfm_policy.config import ExperimentConfig, config_from_dict, config_to_yaml
from lfm_policy.data.dataset import DatasetBundle, build_datasets
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.policy.checkpoint import MODEL_FILE
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training import Interrupted, train
from lfm_policy.training.trainer import Trainer
from lfm_runtime.policy.spec import DataSpec

EPISODE_LENGTHS = (11, 14, 9, 16, 12)

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "dataset": {"name": "zarr", "obs_keys": ["position"], "validation_ratio": 0.2},
    "policy": {"n_obs_steps": 2, "horizon": 4, "n_action_steps": 2},
    "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
    "flow": {"n_blocks": 2, "c": 0.3},
    "sampler": {"nfe": 4, "noise_scale": 1.0},
    "push_forward": {"solver": "dopri5", "rtol": 1e-2, "atol": 1e-2, "batch_size": 16},
    "training": {
        "total_steps": 30,
        "batch_size": 8,
        "warmup_steps": 2,
        "learning_rate": 3e-3,
        "obs_noise": 0.0,
        "encoder": "block1",
        "encoder_batch_size": 0,
        "log_every": 5,
        "validation_every": 10,
    },
    "distill": {
        "inputs": "teacher",
        "tail_weight": 1.0,
        "teacher_solver": "midpoint",
        "training": {},
    },
}
"""Two blocks of 15 steps; 47 training windows, which are pushed forward in 3 batches."""

CHECKPOINTS_EVERYWHERE = {
    "training.checkpoint_every": 4,
    "training.keep_checkpoints": 1000,
    "push_forward.checkpoint_every": 1,
}


def _write_demonstrations(path: Path, seed: int) -> Path:
    """Write episodes whose actions follow from the observations, up to some noise.

    So does ``goal``, exactly, which no policy of these tests observes.
    """
    generator = np.random.default_rng(seed)
    steps = sum(EPISODE_LENGTHS)
    position = np.cumsum(generator.normal(size=(steps, 3)), axis=0).astype(np.float32)
    action = position @ generator.normal(size=(3, 2)) + 0.1 * generator.normal(size=(steps, 2))
    goal = (10 * position[:, :2] - position[:, 1:] + 5).astype(np.float32)
    arrays = {"action": action.astype(np.float32), "position": position, "goal": goal}
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(EPISODE_LENGTHS)))
    return path


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a zarr replay buffer: actions of 2 numbers, ``position`` and ``goal``."""
    return _write_demonstrations(tmp_path_factory.mktemp("data") / "tiny.zarr", seed=0)


@pytest.fixture(scope="session")
def other_demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a replay buffer of the same shapes with other numbers."""
    return _write_demonstrations(tmp_path_factory.mktemp("data") / "other.zarr", seed=1)


MakeConfig = Callable[..., ExperimentConfig]


@pytest.fixture(scope="session")
def make_config(demonstrations: Path) -> MakeConfig:
    """Return a function that makes a tiny experiment, changed by ``{"section.key": value}``.

    ``checkpoints=True`` writes checkpoints wherever possible and keeps them.
    """

    def make(
        changes: dict[str, Any] | None = None, *, checkpoints: bool = False
    ) -> ExperimentConfig:
        options: dict[str, Any] = {
            key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()
        }
        all_changes = {
            "dataset.path": str(demonstrations),
            **(CHECKPOINTS_EVERYWHERE if checkpoints else {}),
            **(changes or {}),
        }
        for key, value in all_changes.items():
            section, _, name = key.rpartition(".")
            (options.setdefault(section, {}) if section else options)[name] = value
        return config_from_dict(options, "test")

    return make


@pytest.fixture(scope="session")
def write_config() -> Callable[[ExperimentConfig, Path], str]:
    """Return a function that writes a configuration for the command line."""

    def write(config: ExperimentConfig, path: Path) -> str:
        path.write_text(config_to_yaml(config), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="session")
def trained(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny experiment, trained without interruption.

    All intermediate checkpoints are kept.
    """
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(make_config(checkpoints=True), folder, device="cpu", quiet=True)
    return folder


def _weights(path: Path) -> dict[str, Tensor]:
    return load_file(find_checkpoint(path) / MODEL_FILE)


@pytest.fixture(scope="session")
def weights() -> Callable[[Path], dict[str, Tensor]]:
    """Return a function that reads the weights of a checkpoint or of a run's newest one."""
    return _weights


@pytest.fixture(scope="session")
def assert_same_weights() -> Callable[[Path, Path], None]:
    """Return a function that compares the weights of two checkpoints or runs bit by bit."""

    def check(left: Path, right: Path) -> None:
        a, b = _weights(left), _weights(right)
        assert a.keys() == b.keys()
        differing = [key for key in a if not torch.equal(a[key], b[key])]
        assert not differing

    return check


@pytest.fixture(scope="session")
def load_data() -> Callable[[ExperimentConfig], DatasetBundle]:
    """Return a function that loads the demonstrations of an experiment."""

    def load(config: ExperimentConfig) -> DatasetBundle:
        policy = config.policy
        return build_datasets(
            config.dataset, policy.n_obs_steps, policy.horizon, policy.n_action_steps
        )

    return load


@pytest.fixture(scope="session")
def make_model() -> Callable[[ExperimentConfig, DatasetBundle], PolicyModel]:
    """Return a function that makes the networks of an experiment, with weights from seed 0.

    The last layers are not zero, as they are at the start of a training: every weight matters.
    """

    def make(config: ExperimentConfig, data: DatasetBundle) -> PolicyModel:
        torch.manual_seed(0)
        model = PolicyModel(config, DataSpec(data.obs_shapes, data.action_dim, data.fingerprint))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        return model.eval()

    return make


class _Worker:
    """Does the work of a process in this one, when it is started."""

    started: list[int]

    def __init__(self, *, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._work = lambda: target(*args)
        self._n = args[2]
        self.exitcode: int | None = None

    def start(self) -> None:
        self.started.append(self._n)
        try:
            self._work()
        except SystemExit as end:
            self.exitcode = int(end.code or 0)
        else:
            self.exitcode = 0

    def is_alive(self) -> bool:
        return False

    def join(self) -> None:
        pass

    def terminate(self) -> None:
        pass


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace processes, which take seconds to import torch; return the blocks they train."""
    started: list[int] = []

    class Context:
        Process = type("Worker", (_Worker,), {"started": started})

    def get_context(method: str) -> Any:
        assert method == "spawn"
        return Context

    monkeypatch.setattr(multiprocessing, "get_context", get_context)
    return started


BeforeStep = Callable[[int, int, Callable[[], None]], None]
StoppedAt = Callable[..., AbstractContextManager[None]]
_TRAIN_STEP = Trainer.train_step


def _stepping(n: int, step: int, action: Callable[[], None]) -> Callable[[Trainer], Any]:
    def wrapped(trainer: Trainer) -> tuple[Tensor, Tensor]:
        if (trainer.n, trainer.step) == (n, step):
            action()
        return _TRAIN_STEP(trainer)

    return wrapped


@pytest.fixture
def before_step(monkeypatch: pytest.MonkeyPatch) -> BeforeStep:
    """Return a function with which something happens before step ``step`` (from 0) of block n."""

    def plan(n: int, step: int, action: Callable[[], None]) -> None:
        monkeypatch.setattr(Trainer, "train_step", _stepping(n, step, action))

    return plan


@pytest.fixture(scope="session")
def stopped_at() -> StoppedAt:
    """Return a context in which SIGTERM comes before a step, and has to interrupt the training."""

    @contextmanager
    def stopped(n: int, step: int, match: str | None = None) -> Iterator[None]:
        kill = partial(os.kill, os.getpid(), signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match=match):
            patch.setattr(Trainer, "train_step", _stepping(n, step, kill))
            yield

    return stopped
