"""``lfm-policy eval``: one short rollout, and what cannot be rolled out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, PolicyModel, write_checkpoint

Command = Callable[..., Any]

OBS_SHAPES = {"agent_pos": (2,), "block_pose": (4,), "keypoints": (16,)}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an untrained policy for PushT."""

    def make(
        env: str = "lfm/PushT-v0", obs_shapes: dict[str, tuple[int, ...]] | None = None
    ) -> Path:
        options = {
            "policy": {"horizon": 9},
            "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 2},
            "env": {"id": env, "max_episode_steps": 6},
        }
        config = config_from_dict(options, "test")
        spec = DataSpec(obs_shapes or OBS_SHAPES, 2)
        model = PolicyModel(config, spec)
        shapes = {**spec.obs_shapes, "action": (2,)}
        arrays = {k: np.stack([np.zeros(s), np.full(s, 512.0)]) for k, s in shapes.items()}
        record = {"steps": 1, "train_seconds": 1.0, "push_seconds": 0.0}
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        write_checkpoint(
            folder,
            config=config,
            spec=spec,
            model_state=model.state_dict(),
            normalizer=Normalizer.fit(arrays),
            training={
                "complete": True,
                "block_steps": [1],
                "steps": 1,
                "train_seconds": 1.0,
                "push_seconds": 0.0,
                "blocks": [record],
                "parameters": model.parameter_counts(),
            },
        )
        return folder

    return make


def test_eval(command: Command, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint()
    arguments = ["eval", folder, "--episodes", 2, "--nfe", 1, 3, "--quiet", "--seed", 4]
    result = command(*arguments)
    assert result.code == 0, result.err
    assert "lfm/PushT-v0, seeds 100000 to 100001, noise seed 4, n = 2" in result.out
    assert "95% interval" in result.out
    written = json.loads((folder / "eval" / "eval.json").read_text())
    assert (folder / "eval" / "eval.png").read_bytes().startswith(b"\x89PNG")
    assert [cell["nfe"] for cell in written["cells"]] == [1, 3]
    as_json = command(*arguments, "--json", "--output", tmp_path / "other")
    report = json.loads(as_json.out)
    assert report == json.loads((tmp_path / "other" / "eval.json").read_text())
    for cell, other in zip(report["cells"], written["cells"], strict=True):
        assert cell["episodes"] == other["episodes"]
        assert [episode["steps"] for episode in cell["episodes"]] == [6, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "3", "--video", "4"], "episode 3 was to be filmed, but there are only 3"),
        (["--video-episodes", "200"], "episode 200 was to be filmed, but there are only 200"),
        (["--env", "lfm/Nothing-v0"], "environment 'lfm/Nothing-v0' cannot be created"),
        (["--env", "nonsense"], "environment 'nonsense'"),
        (["--solver", "eular"], "unknown solver 'eular': did you mean 'euler'?"),
        (["--solver", "heun", "--nfe", "3"], "nfe is 3, expected a multiple of 2"),
        (["--solver", "dopri5", "--nfe", "3"], "the solver 'dopri5' chooses its steps itself"),
        (["--nfe", "1", "200", "--solver", "midpoint"], "nfe is 1, expected a multiple of 2"),
        (["--device", "gpu"], "device 'gpu': expected auto, cpu, cuda"),
        (["--num-envs", "5000"], "num_envs is 5000, expected 1 to 1024"),
    ],
)
def test_bad_input(
    command: Command, make_checkpoint: Callable[..., Path], arguments: list[str], message: str
) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint()
    result = command("eval", folder, *arguments)
    assert result.code == 2
    assert result.err.startswith("error: ") or "\nerror: " in result.err
    assert message in result.err and not result.out
    assert not (folder / "eval").exists()


def test_no_environment(command: Command, make_checkpoint: Callable[..., Path]) -> None:
    result = command("eval", make_checkpoint(env=""), "--episodes", 1)
    assert result.code == 2
    assert "the checkpoint names no environment (env.id is empty)" in result.err


def test_another_environment_than_in_training(
    command: Command, make_checkpoint: Callable[..., Path]
) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint(obs_shapes={"agent_pos": (2,), "gripper": (1,)})
    result = command("eval", folder, "--episodes", 1)
    assert result.code == 2
    assert "environment 'lfm/PushT-v0' gives no observation 'gripper'" in result.err
