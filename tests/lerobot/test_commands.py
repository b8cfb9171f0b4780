"""The commands that lead to LeRobot and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lfm_policy.cli.main import main
from lfm_policy.errors import InputError
from lfm_policy.lerobot.export import export_lerobot
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
        (["--check", "--episodes", "3"], "by which fp16 and int8 are compared too"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "pusht-state", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_lerobot_is_told_from_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = str(tmp_path / "there")
    assert main(["export", "pusht-state", there, "--format", "lerobot"]) == 0
    capsys.readouterr()
    for command in (["inspect", there], ["check", there], ["push", there, "user/x", "--dry-run"]):
        assert main(command) == 2
        assert f"'lfm-policy import {there} my_policy'" in capsys.readouterr().err
    for name in ("model.pth", "latest.ckpt"):
        (tmp_path / name).write_bytes(b"PK")
        assert main(["inspect", str(tmp_path / name)]) == 2
        assert f"lfm-policy import {tmp_path / name} my_policy" in capsys.readouterr().err
    assert main(["import", there, str(tmp_path / "back"), "--ignore", "depth"]) == 2
    assert "no option of it has to be ignored (depth)" in capsys.readouterr().err


def test_tasks_by_number_are_not_lerobot_s(tmp_path: Path) -> None:
    policy = load_policy("pusht-state")
    shapes = {**policy.spec.obs_shapes, "task": (2,)}
    policy.spec = replace(policy.spec, obs_shapes=shapes, tasks=("fold", "stack"))
    with pytest.raises(InputError, match="one of 2 tasks by a number, which LeRobot gives"):
        export_lerobot(policy, tmp_path / "there")
