"""Genuine checkpoints of other frameworks with what these frameworks made of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.importing.run import import_policy
from lfm_policy.policy import Policy, load_policy

_REPOSITORY = Path(__file__).resolve().parents[2]


def _foreign() -> Path | None:
    named = os.environ.get("LFM_POLICY_FOREIGN")
    beside = _REPOSITORY.parent / "shared" / "foreign"
    for candidate in (Path(named) if named else None, beside):
        if candidate is not None and candidate.is_dir():
            return candidate
    return None


@pytest.fixture(scope="session")
def foreign() -> Path:
    """Folder of the genuine checkpoints; the test is skipped where they are absent."""
    path = _foreign()
    if path is None:
        pytest.skip(
            "checkpoints of other frameworks are absent: set LFM_POLICY_FOREIGN to their folder"
        )
    return path


def whole(path: Path, folder: Path) -> Path:
    """Return a checkpoint whose weights, where they were too large to keep, are made anew."""
    recipe = path / "make_weights.py"
    if not recipe.exists():
        return path
    shutil.copytree(path, folder, dirs_exist_ok=True)
    target = folder / "model.safetensors"
    subprocess.run([sys.executable, str(recipe), str(path), str(target)], check=True)
    return folder


class Reference:
    """A checkpoint, imported, beside the framework's own numbers."""

    def __init__(self, policy: Policy, numbers: dict[str, np.ndarray]) -> None:
        self.policy, self.numbers = policy, numbers

    @property
    def batch(self) -> dict[str, np.ndarray]:
        """Raw observations, as our policies take them."""
        return self._observations("raw/")

    @property
    def rollout(self) -> dict[str, np.ndarray]:
        """Raw observations of the steps of an episode."""
        return self._observations("rollout/")

    def _observations(self, prefix: str) -> dict[str, np.ndarray]:
        found = {key: self.numbers[prefix + key] for key in self.policy.spec.obs_shapes}
        images = {key for key, value in found.items() if value.dtype == np.uint8}
        return {k: np.moveaxis(v, -3, -1) if k in images else v for k, v in found.items()}

    def tensor(self, name: str) -> torch.Tensor:
        """Return some of the numbers."""
        return torch.from_numpy(self.numbers[name])


@pytest.fixture(scope="session")
def reference(
    foreign: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Reference]:
    """Return a function that imports one of the genuine checkpoints, once."""
    made: dict[str, Reference] = {}

    def get(path: str) -> Reference:
        if path not in made:
            folder = tmp_path_factory.mktemp("imported") / "policy"
            file = whole(foreign / path, tmp_path_factory.mktemp("whole"))
            import_policy(file, folder)
            file = foreign / path
            with np.load((file if file.is_dir() else file.parent) / "reference.npz") as numbers:
                made[path] = Reference(load_policy(folder), dict(numbers))
        return made[path]

    return get


@contextmanager
def given_noise(noise: np.ndarray) -> Iterator[None]:
    """Let DDPM add these noises (steps, B, horizon, action_dim), in their order."""
    from diffusers.schedulers import scheduling_ddpm

    left = iter(torch.from_numpy(noise))

    def drawn(shape: Any, **_: Any) -> torch.Tensor:
        found = next(left)
        assert tuple(found.shape) == tuple(shape)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduling_ddpm, "randn_tensor", drawn)
        yield
