"""Policies of LeRobot on the hub: all files of one commit, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from lfm_policy.errors import InputError
from lfm_policy.importing.run import import_policy
from lfm_policy.policy import load_policy

from .test_lerobot_errors import drop, put, written

COMMIT = "0123456789abcdef"


def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Let the hub have one policy; return what is asked of it: names and revisions."""
    asked: list[tuple[str, Any]] = []

    def download(
        repo: str, file: str, revision: str | None = None, local_files_only: bool = False
    ) -> str:
        assert repo == "user/policy"
        asked.append((file, revision))
        return str(folder / file)

    class Api:
        def model_info(self, repo: str, revision: str) -> Any:
            assert (repo, revision) == ("user/policy", COMMIT)
            files = [*folder.iterdir(), folder / "README.md"]
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=f.name) for f in files])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return asked


def test_all_that_is_needed_is_of_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub(written(tmp_path / COMMIT), monkeypatch)
    import_policy("user/policy@main", tmp_path / "out")
    assert load_policy(tmp_path / "out").nfe == 5
    assert asked == [
        ("config.json", "main"),
        ("model.safetensors", COMMIT),
        ("policy_preprocessor.json", COMMIT),
        ("normalizer_processor.safetensors", COMMIT),
        ("policy_postprocessor.json", COMMIT),
        ("unnormalizer_processor.safetensors", COMMIT),
    ]


def test_weights_of_something_else_are_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub(written(tmp_path / COMMIT, change=drop("type")), monkeypatch)
    with pytest.raises(InputError, match="user/policy on the hub is no policy of LeRobot"):
        import_policy("user/policy", tmp_path / "out")
    assert [file for file, _ in asked] == ["config.json"]


def test_a_policy_of_another_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(written(tmp_path / COMMIT, change=put("type", "act")), monkeypatch)
    with pytest.raises(InputError, match="type is 'act'; supported: 'diffusion'"):
        import_policy("hf://user/policy", tmp_path / "out")
    assert len(asked) == 1
