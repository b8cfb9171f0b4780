"""The bundled configurations of ALOHA: from a LeRobot dataset to rollouts, films and control."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

Command = Callable[..., Any]

LENGTH = 66
FEW_STEPS = (
    "training.total_steps=3",
    "training.encoder_steps=2",
    "training.encoder_views=1",
    "training.batch_size=4",
    "training.encoder_batch_size=4",
    "encoder.image.resize=[24,32]",
    "network.channels=[16,32]",
    "flow.n_blocks=1",
    "flow.step_sizes=[]",
    "push_forward.solver=euler",
    "push_forward.n_steps=1",
)


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    """Two episodes with the features of LeRobot's recordings, whose camera is a small one."""
    rng, n = np.random.default_rng(0), 2 * LENGTH
    start = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.1] * 2)
    arrays = {
        "state": np.float32(start + rng.normal(0, 0.05, (n, 14))),
        "action": np.float32(start + rng.normal(0, 0.05, (n, 14))),
        "top": rng.integers(0, 255, (n, 48, 64, 3), np.uint8),
    }
    path = tmp_path / "lerobot"
    write_lerobot(path, ReplayBuffer(arrays, np.array([LENGTH, n])), fps=50)
    return path


def test_from_demonstrations_to_rollouts(
    command: Command, demonstrations: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed: lfm-policy[aloha]")
    run, out = tmp_path / "run", tmp_path / "out"
    small = "env.options={image_height: 48, image_width: 64}"
    trained = command(
        *("train", "aloha/transfer_cube", f"dataset.path={demonstrations}", small, *FEW_STEPS),
        *("--output", run, "--device", "cpu", "--quiet"),
    )
    assert trained.code == 0, trained.err
    evaluate = ("eval", run, "--nfe", 1, "--max-episode-steps", 6, "--quiet", "--json")
    reports = []
    # In this process first, whose forks could not draw any more.
    for more in (("--no-processes", "--video", 1), ("--num-envs", 2, "--n-action-steps", 4)):
        done = command(*evaluate, "--episodes", 2, "--output", out, *more)
        assert done.code == 0, done.err
        reports.append(json.loads(done.out))
    assert len(list(out.glob("videos/episode_0000_*.mp4"))) == 1
    whole, fewer = (report["cells"][0]["episodes"] for report in reports)
    assert [(e["success"], e["steps"], e["chunks"]) for e in whole] == [(False, 6, 1)] * 2
    assert [(e["success"], e["steps"], e["chunks"]) for e in fewer] == [(False, 6, 2)] * 2
    controlled = command(
        *("control", run, "--nfe", 1, "--hz", 50, "--max-ticks", 5, "--simulated", "--quiet"),
        *("--record", tmp_path / "run.zarr"),
    )
    assert controlled.code == 0, controlled.err
    assert "lfm/AlohaTransferCubeImage-v0 at 50 Hz" in controlled.out


def test_gym_aloha_as_it_is_needs_names_for_its_observations(
    command: Command, demonstrations: Path, tmp_path: Path
) -> None:
    """What the page shows: nested observations, and bounds that people went beyond."""
    pytest.importorskip("gym_aloha", reason="gym-aloha is not installed: lfm-policy[aloha]")
    run = tmp_path / "run"
    command(
        "train", "aloha/insertion", f"dataset.path={demonstrations}", *FEW_STEPS, "--output", run
    )
    theirs = (
        *("eval", run, "--episodes", 1, "--env", "gym_aloha:gym_aloha/AlohaInsertion-v0"),
        *("--env-option", "obs_type=pixels_agent_pos", "--env-option", "observation_height=48"),
        *("--env-option", "observation_width=64", "--max-episode-steps", 1, "--no-processes"),
    )
    refused = command(*theirs)
    assert refused.code == 2
    assert "observation 'state'  (14,)        -            <- not given" in refused.err
    assert "it gives: agent_pos (14,); pixels/top (48, 64, 3)" in refused.err
    assert "--observation 'top=pixels/top'" in refused.err
