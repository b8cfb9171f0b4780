"""Frameworks to import from: what is recognised, and what others add."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.importing.checkpoint import experiment
from lfm_policy.importing.description import ForeignPolicy, Observed
from lfm_policy.importing.frameworks import FRAMEWORKS, read_foreign
from lfm_policy.importing.run import import_policy
from lfm_policy.importing.scaling import identity
from lfm_policy.policy import load_policy
from lfm_policy.policy.model import PolicyModel
from lfm_runtime.plugins import loading


class Mine:
    """Reads a framework whose files say how wide the network is, and whose weights are drawn."""

    def detects(self, path: Path) -> bool:
        return path.suffix == ".mine"

    def read(self, path: Path, *, ignored: Collection[str] = ()) -> ForeignPolicy:
        channels = json.loads(path.read_text())
        found = ForeignPolicy(
            framework="Mine",
            facts={},
            observed=(Observed("state", (3,), identity((3,), data={})),),
            action=identity((2,), data={}),
            action_dim=2,
            network={"name": "conditional_unet1d", "channels": channels, "train_steps": 10},
            weights={},
            method={"name": "diffusion", "train_steps": 10, "clip_sample": False},
            sampler={"solver": "ddim", "nfe": 2},
            steps={"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
        )
        torch.manual_seed(0)
        weights = PolicyModel(*experiment(found, "mine")).blocks[0].state_dict()
        return replace(found, weights=weights)


@pytest.fixture()
def mine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a file of a framework that a plugin has added."""
    monkeypatch.setattr(FRAMEWORKS, "_entries", dict(FRAMEWORKS._entries))
    monkeypatch.setattr(FRAMEWORKS, "_plugins", {})
    with loading("my_module"):
        FRAMEWORKS.add("mine", Mine())
    path = tmp_path / "policy.mine"
    path.write_text("[16, 32]")
    return path


@pytest.mark.parametrize("name", ["", "mine"])
def test_the_framework_of_a_plugin_is_recognised(mine: Path, tmp_path: Path, name: str) -> None:
    found = import_policy(mine, tmp_path / "imported", framework=name, rename={"state": "joints"})
    assert found.framework == "Mine" and found.shapes == {"joints": (3,)}
    policy = load_policy(tmp_path / "imported")
    chunk = policy.predict_action_chunk({"joints": np.zeros((1, 2, 3), np.float32)})
    assert chunk.shape[1:] == (4, 2) and bool(torch.isfinite(torch.as_tensor(chunk)).all())


def test_what_is_of_no_framework(tmp_path: Path) -> None:
    path = tmp_path / "policy.mine"
    path.write_text("[16, 32]")
    with pytest.raises(InputError, match="is no policy that can be imported; supported: LeRobot"):
        read_foreign(path)
    with pytest.raises(InputError, match="there is nothing"):
        read_foreign(tmp_path / "missing")


def test_the_folder_of_a_policy_is_named_to_who_is_near_it(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints" / "000100" / "pretrained_model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"type": "diffusion", "input_features": {}}')
    (folder / "model.safetensors").write_bytes(b"")
    near = (tmp_path / "run", folder.parent.parent, folder.parent, folder / "model.safetensors")
    for path in near:
        with pytest.raises(InputError, match="Did you mean .*000100/pretrained_model"):
            read_foreign(path)
