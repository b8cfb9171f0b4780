"""Which folder an option means, what is downloaded, and path templates that nobody vouches for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.data.lerobot.files import (
    DatasetFolder,
    PathTemplate,
    files_digest,
    open_dataset,
    require_file,
    similar_names,
)
from lfm_policy.errors import InputError

FIELDS = ("chunk_index", "file_index", "video_key")
ROOT = Path("/demo")


def path(text: str, key: str = "observation.image") -> str:
    values = {"chunk_index": 3, "file_index": 12, "video_key": key}
    return PathTemplate(text, "info.json: video_path", FIELDS).path(ROOT, values).as_posix()


def test_fields_and_digits() -> None:
    found = path("videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:01d}.mp4")
    assert found == "/demo/videos/observation.image/chunk-003/file-12.mp4"
    assert path("{file_index}") == "/demo/12"
    assert path("{video_key:03d}/{chunk_index:099d}", "..a").startswith("/demo/..a/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a/../b",
        "../{file_index}",
        "/etc/{file_index}",
        "//server/{file_index}",
        "C:/{file_index}",
        "a\\..\\{file_index}",
        "a\0{file_index}",
    ],
)
def test_paths_that_lead_out(text: str) -> None:
    with pytest.raises(InputError, match="info.json: video_path is .* inside the dataset's folder"):
        path(text)


@pytest.mark.parametrize("key", ["..", "../x", "a/../../../x", "\0", "a\\b"])
def test_a_key_cannot_lead_out(key: str) -> None:
    with pytest.raises(InputError, match=r"without '\.\.'"):
        path("videos/{video_key}/{file_index}.mp4", key)
    with pytest.raises(InputError, match=r"without '\.\.'"):
        path("{video_key}", "/etc/hostname")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "unknown field ''"),
        ("{0}", "unknown field '0'"),
        ("{file_indx}", "unknown field 'file_indx': did you mean 'file_index'"),
        ("{file_index.__class__}", "unknown field 'file_index.__class__'"),
        ("{file_index[0]}", "unknown field"),
        ("{file_index!r}", "unknown field"),
        ("{file_index:>999999999d}", "at most with a number of digits"),
        ("{file_index:0999999999d}", "at most with a number of digits"),
        ("{file_index:{chunk_index}}", "at most with a number of digits"),
        ("{{file_index}}", "at most with a number of digits"),
        ("{file_index", "at most with a number of digits"),
        ("a}", "at most with a number of digits"),
    ],
)
def test_what_is_no_field(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        path(text)


PIECES = ["a", "..", ".", "/", "\\", ":", "{", "}", "{file_index}", "{video_key}", "{x}", ":03d"]


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.text(alphabet="a./\\:", max_size=6))
def test_any_template_is_refused_or_stays_inside(text: str, key: str) -> None:
    try:
        found = path(text, key)
    except InputError:
        return
    assert os.path.normpath(found).startswith(str(ROOT) + "/")
    assert "{" not in found and "}" not in found


def test_the_digest_is_of_name_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    os.utime(file, ns=(5, 5))
    first = files_digest([file])
    assert files_digest([tmp_path / "." / "a"]) == first
    file.write_text("22")
    os.utime(file, ns=(5, 5))
    second = files_digest([file])
    os.utime(file, ns=(6, 6))
    assert len({first, second, files_digest([file]), files_digest([])}) == 4
    with pytest.raises(InputError, match="b: there is no such file, but it is needed"):
        require_file(tmp_path / "b", "it is needed")


def test_names_are_listed_in_bounded_length() -> None:
    many = [f"stats/{i}/mean" for i in range(10**4)]
    assert len(similar_names("state", many)) < 1100
    assert similar_names("stat", ["state", "pose"]) == "did you mean 'state'? (known: state, pose)"


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


def test_what_lerobot_recorded_here_comes_before_the_hub(
    asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "home"))
    recorded = tmp_path / "home" / "me" / "pick"
    (recorded / "meta").mkdir(parents=True)
    (recorded / "meta" / "info.json").write_text("{}")
    assert open_dataset("me/pick", None) == DatasetFolder(recorded)
    assert asked == []
    assert open_dataset("me/pick", "v2.1").hub_id == "me/pick"  # revisions are the hub's


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
