"""Policies by path and by the name of one that comes with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lfm_policy import InputError, load_policy
from lfm_policy.assets import POLICIES
from lfm_policy.policy import find_checkpoint


def test_a_path_comes_before_a_name(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(find_checkpoint(small_run), tmp_path / POLICIES[0])
    assert find_checkpoint(POLICIES[0]) == Path(POLICIES[0])


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(InputError, match="nor a policy that comes with the package .pusht-state,"):
        load_policy("pusht-stat")
