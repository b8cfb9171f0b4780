"""Which folder an option means, and what is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfm_policy.data.lerobot.files import DatasetFolder, open_dataset
from lfm_policy.errors import InputError

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture()
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def download(hub_id: str, **options: Any) -> str:
        calls.append({"hub_id": hub_id, **options})
        return str(tmp_path / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_folder_comes_before_the_hub(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "lerobot" / "pusht").mkdir(parents=True)
    folder = open_dataset("lerobot/pusht", None)
    assert folder == DatasetFolder(Path("lerobot/pusht"))
    folder.fetch([folder.root / "data/a.parquet"])
    assert asked == []


def test_first_meta_then_the_files_of_the_same_commit(asked: list[dict[str, Any]]) -> None:
    folder = open_dataset("lerobot/pusht", "v2.1")
    folder.fetch([folder.root / "data/a.parquet", folder.root / "videos/[x]/a.mp4"])
    common = {"hub_id": "lerobot/pusht", "repo_type": "dataset"}
    meta = ["meta/info.json", "meta/episodes.jsonl", "meta/episodes/*"]
    files = ["data/a.parquet", "videos/[[]x]/a.mp4"]
    assert asked == [
        {**common, "revision": "v2.1", "allow_patterns": meta},
        {**common, "revision": COMMIT, "allow_patterns": files},
    ]


def test_many_files_are_asked_for_by_folder(asked: list[dict[str, Any]]) -> None:
    folder = open_dataset("lerobot/pusht", None)
    folder.fetch([folder.root / f"{top}/{i}" for top in ("data", "videos") for i in range(101)])
    assert asked[-1]["allow_patterns"] == ["data/*", "videos/*"]


@pytest.mark.parametrize(
    "path", ["nowhere", "a/b/c", "/a/b", "./a/b", "../a", "a/..", "a/b..c", "a b/c", "a" * 5000]
)
def test_what_is_neither(path: str, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="no such folder; expected .* or owner/name of one on the"):
        open_dataset(path, None)
    assert asked == []


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="a is a file; expected the folder of a LeRobot dataset"):
        open_dataset(str(tmp_path / "a"), None)


@pytest.mark.parametrize("revision", [None, "v3.0"])
def test_without_a_network(
    revision: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real client, which must not reach for the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        open_dataset("somebody/no-such-dataset", revision)
    message = str(caught.value)
    assert "somebody/no-such-dataset: there is no such folder, and it cannot be downl" in message
    assert "hf download somebody/no-such-dataset --repo-type dataset" in message
    assert "set dataset.path to FOLDER" in message
    assert ("--revision v3.0" in message) == (revision is not None)
