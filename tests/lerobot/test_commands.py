"""The commands that lead to LeRobot and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lfm_policy.cli.main import main
from lfm_policy.policy import load_policy

from .conftest import chunks, observations


def test_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = str(tmp_path / "there"), str(tmp_path / "back")
    names = ["--rename", "block_pose=observation.block"]
    assert main(["export", "pusht-state", there, "--format", "lerobot", "--nfe", "4", *names]) == 0
    assert "observes observation.block for block_pose (4,)" in capsys.readouterr().out
    assert main(["import", there, back, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["observations"] == {"agent_pos": [2], "block_pose": [4], "keypoints": [16]}
    assert (report["nfe"], report["solver"]) == (4, "euler")
    policy, other = load_policy("pusht-state"), load_policy(back)
    policy.set_sampler(nfe=4)
    obs = observations(policy)
    torch.testing.assert_close(chunks(other, obs), chunks(policy, obs), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rename", "a=observation.a"], "--rename is for --format lerobot"),
        (["--format", "lerobot", "--check"], "--check and --precision are for --format onnx"),
        (["--format", "lerobot", "--precision", "int8"], "--check and --precision are for"),
        (["--format", "lerobot", "--rename", "a"], "--rename a: expected OLD=NEW"),
        (["--format", "lerobot", "--rename", "a=observation.a"], "no observation 'a'"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "pusht-state", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
