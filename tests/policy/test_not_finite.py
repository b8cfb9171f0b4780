"""An action that is not a number never leaves the policy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lfm_policy import load_policy


def test_a_velocity_that_overflows_is_an_error(small_run: Path, tmp_path: Path) -> None:
    policy = load_policy(shutil.copytree(small_run, tmp_path / "run"))
    with torch.no_grad():
        for parameter in policy.model.blocks[0].parameters():
            parameter.fill_(1e38)
    with pytest.raises(FloatingPointError, match="not finite"):
        policy.select_action(policy.fake_obs())
