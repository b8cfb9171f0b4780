"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr

torch.set_num_threads(1)

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_disks() -> Iterator[None]:
    """Leave out what protects files from power cuts, which no test can make; killing it can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def _only_new_objects_are_collected() -> None:
    """Let the garbage collector look only at what the tests of this file make.

    accelerate has it look at everything after each block that is trained: at half a million objects
    of what is imported, and longer than a tiny training takes.
    """
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def small_export(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the export of ``small_run``; copy it before changing it."""
    pytest.importorskip("onnxscript", reason="exports need the extra 'deploy'")
    from lfm_policy.exporting import export_policy
    from lfm_policy.policy import load_policy

    return export_policy(load_policy(small_run), tmp_path_factory.mktemp("exports") / "small")


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


class _Seen(TorchDispatchMode):
    """Keeps the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name().removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="session")
def operations_of() -> Callable[[Callable[[], object]], list[str]]:
    """Return a function that does some work and returns the names of torch's operations in it."""

    def operations(work: Callable[[], object]) -> list[str]:
        with _Seen() as seen:
            work()
        return seen.names

    return operations


@pytest.fixture(scope="session")
def looks() -> Callable[[list[str]], list[str]]:
    """Return a function that finds the operations whose result, or its shape, the CPU must know."""
    names = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "is_nonzero", "equal")

    def found(operations: list[str]) -> list[str]:
        return [one for one in operations if one.split(".")[0] in names]

    return found
