"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr

torch.set_num_threads(1)

_REPOSITORY = Path(__file__).resolve().parent.parent


def _find_pusht() -> Path | None:
    named = os.environ.get("LFM_POLICY_PUSHT_ZARR")
    beside = _REPOSITORY.parent / "shared" / "data" / "pusht" / "pusht_cchi_v7_replay.zarr"
    for candidate in (Path(named) if named else None, beside):
        if candidate is not None and candidate.exists():
            return candidate
    return None


@pytest.fixture(scope="session")
def pusht_zarr() -> Path:
    """Path of the 206 human PushT demonstrations; the test is skipped where they are absent."""
    path = _find_pusht()
    if path is None:
        pytest.skip(
            "the human PushT demonstrations are absent: set LFM_POLICY_PUSHT_ZARR to the path of "
            "pusht_cchi_v7_replay.zarr"
        )
    return path


@pytest.fixture(scope="session")
def small_zarr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of 6 random episodes: ``action`` (2,), ``agent_pos`` (2,) and ``pose`` (4,)."""
    generator = np.random.default_rng(0)
    ends = np.cumsum([12, 9, 15, 10, 11, 13])
    shapes = {"action": (2,), "agent_pos": (2,), "pose": (4,)}
    arrays = {
        key: generator.uniform(0, 500, (ends[-1], *shape)).astype(np.float32)
        for key, shape in shapes.items()
    }
    path = tmp_path_factory.mktemp("data") / "small.zarr"
    write_zarr(path, ReplayBuffer(arrays, ends))
    return path


@pytest.fixture(scope="session")
def small_config(small_zarr: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a configuration of two tiny blocks on ``small_zarr``, trained in a second."""
    options = {
        "name": "small",
        "dataset": {
            "name": "zarr",
            "path": str(small_zarr),
            "obs_keys": ["agent_pos", "pose"],
            "validation_ratio": 0.2,
        },
        "policy": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3},
        "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 2, "c": 0.2},
        "sampler": {"nfe": 4, "noise_scale": 1.0},
        "push_forward": {"solver": "euler", "n_steps": 2},
        "training": {
            "total_steps": 8,
            "batch_size": 8,
            "warmup_steps": 2,
            "obs_noise": 0.0,
            "log_every": 1,
            "validation_every": 2,
            "num_threads": 1,
        },
        "distill": {
            "inputs": "teacher",
            "tail_weight": 1.0,
            "teacher_solver": "midpoint",
            "training": {},
        },
    }
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_run(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of ``small_config``; copy it before changing it."""
    from lfm_policy.config import load_config
    from lfm_policy.training import train

    folder = tmp_path_factory.mktemp("runs") / "small"
    train(load_config(str(small_config)), folder, device="cpu", quiet=True)
    return folder


@pytest.fixture
def unchanged_logging() -> Iterator[None]:
    """Take back what a test does to the logging of this process."""
    root, library = logging.getLogger(), logging.getLogger("websockets.server")
    before = root.handlers[:], root.level, library.level, library.filters
    yield
    root.handlers, level, library_level, library.filters = before
    root.setLevel(level)
    library.setLevel(library_level)


@pytest.fixture
def fake_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes torch report so many GPUs."""

    def set_count(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return set_count
