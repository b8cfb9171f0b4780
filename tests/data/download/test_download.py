"""Downloads from a local server: whole, resumed, damaged, changed, unreachable, archives."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import file_download

from lfm_policy.data.download import download as module
from lfm_policy.data.download.download import address, download
from lfm_policy.data.download.locations import LOCATIONS, Location, find_location
from lfm_policy.errors import InputError
from lfm_runtime.disk.leftovers import only_writer

from ...http_server import serving
from .download_server import FileServer

CONTENT = bytes(range(256)) * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    with serving(FileServer()) as server:
        server.files["/lift.hdf5"] = CONTENT
        yield server


def lift(server: FileServer, **changes: Any) -> Location:
    options: dict[str, Any] = {"url": f"{server.url}/lift.hdf5", "path": "robomimic/lift.hdf5"}
    return Location(**(options | {"size": len(CONTENT), "sha256": SHA256} | changes))


def left(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# -- whole and again ------------------------------------------------------------------------------


def test_a_whole_file(server: FileServer, tmp_path: Path) -> None:
    done = download(lift(server), tmp_path)
    path = tmp_path / "robomimic/lift.hdf5"
    assert done.to_dict() == {
        "path": str(path),
        "size": len(CONTENT),
        "sha256": SHA256,
        "official": True,
        "fetched": True,
    }
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["robomimic/lift.hdf5", "robomimic/lift.hdf5.sha256"]
    assert (tmp_path / "robomimic/lift.hdf5.sha256").read_text() == f"{SHA256}  lift.hdf5\n"


def test_a_file_that_is_there_is_only_checked(server: FileServer, tmp_path: Path) -> None:
    download(lift(server), tmp_path)
    server.requests.clear()
    assert not download(lift(server), tmp_path).fetched
    assert server.requests == []
    (tmp_path / "robomimic/lift.hdf5").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(InputError, match=f"SHA-256 .* expected {SHA256}: it is damaged"):
        download(lift(server), tmp_path)
    (tmp_path / "robomimic/lift.hdf5").write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="127,999 bytes, expected 128,000"):
        download(lift(server), tmp_path)


def test_a_file_put_there_by_hand(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "robomimic/lift.hdf5"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert download(lift(server), tmp_path).official
    assert server.requests == []


def test_a_checksum_that_nobody_states_is_recorded(server: FileServer, tmp_path: Path) -> None:
    unstated = lift(server, size=None, sha256=None)
    done = download(unstated, tmp_path)
    assert done.sha256 == SHA256 and not done.official
    assert not download(unstated, tmp_path).official
    path = tmp_path / "robomimic/lift.hdf5"
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match="as recorded at its first download"):
        download(unstated, tmp_path)
    path.unlink()
    server.files["/lift.hdf5"] = CONTENT[::-1]
    with pytest.raises(InputError, match="as recorded at its first download"):
        download(unstated, tmp_path)


# -- interruptions --------------------------------------------------------------------------------


def test_goes_on_where_the_connection_broke_off(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [1000, 50_000, 0, 7]
    done = download(lift(server), tmp_path)
    assert Path(done.path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests][-1] == "bytes=51000-"


def test_goes_on_in_a_later_call(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [3000] + [0] * 100
    with pytest.raises(InputError, match=r"3,000 bytes are kept in .*lift\.hdf5\.part"):
        download(lift(server), tmp_path)
    assert not (tmp_path / "robomimic/lift.hdf5").exists()
    server.requests.clear()
    server.breaks = []
    assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/lift.hdf5", "bytes=3000-")
    assert left(tmp_path) == ["robomimic/lift.hdf5", "robomimic/lift.hdf5.sha256"]


def test_a_complete_part_that_was_never_renamed(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [3000] + [0] * 100
    with pytest.raises(InputError):
        download(lift(server), tmp_path)
    server.breaks = []
    (tmp_path / "robomimic/lift.hdf5.part").write_bytes(CONTENT)
    assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT


@pytest.mark.parametrize("attribute", ["ranges", "versions"])
def test_starts_again_where_parts_cannot_be_trusted(
    server: FileServer, tmp_path: Path, attribute: str
) -> None:
    setattr(server, attribute, False)
    server.breaks = [1000, 2000]
    assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT


def test_starts_again_when_the_file_has_changed(server: FileServer, tmp_path: Path) -> None:
    server.files["/lift.hdf5"] = CONTENT[::-1]
    server.breaks = [3000] + [0] * 100
    with pytest.raises(InputError):
        download(lift(server), tmp_path)
    server.breaks = []
    server.files["/lift.hdf5"] = CONTENT
    assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT


def test_starts_again_when_the_file_is_shorter_now(server: FileServer, tmp_path: Path) -> None:
    part = tmp_path / "robomimic/lift.hdf5.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * (len(CONTENT) + 1))
    part.with_name(part.name + ".version").write_text(f'"{SHA256}"')
    assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT


def test_goes_on_after_ctrl_c(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    server.breaks = [3000]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("time.sleep", interrupt)
        download(lift(server), tmp_path)
    assert "robomimic/lift.hdf5" not in left(tmp_path)
    assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/lift.hdf5", "bytes=3000-")


def test_no_token_goes_to_other_servers(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(lift(server), tmp_path)
    assert server.authorizations == [None, None]


def test_waits_while_the_server_is_busy(server: FileServer, tmp_path: Path) -> None:
    server.answers = [503, 429, 500]
    assert download(lift(server), tmp_path).fetched
    server.answers = [503] * 100
    shutil.rmtree(tmp_path / "robomimic")
    with pytest.raises(InputError, match="the server answered 503"):
        download(lift(server), tmp_path)


# -- what is wrong --------------------------------------------------------------------------------


def test_a_wrong_checksum(server: FileServer, tmp_path: Path) -> None:
    server.files["/lift.hdf5"] = CONTENT[:-1] + b"x"
    with pytest.raises(InputError, match=f"has SHA-256 .*, expected {SHA256}") as caught:
        download(lift(server), tmp_path)
    assert "lift.hdf5" in str(caught.value)
    assert left(tmp_path) == []


def test_a_wrong_size(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 128,000 bytes, expected 5"):
        download(lift(server, size=5), tmp_path)
    assert left(tmp_path) == []


def test_a_file_that_is_gone(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="/gone: the server answered 404 Not Found"):
        download(lift(server, url=f"{server.url}/gone"), tmp_path)
    assert len(server.requests) == 1


def test_no_network(server: FileServer, tmp_path: Path) -> None:
    url = f"{server.url}/lift.hdf5"
    server.server_close()  # nobody listens there any more
    with pytest.raises(InputError) as caught:
        download(lift(server), tmp_path)
    message = str(caught.value)
    for text in (url, "cannot be downloaded", str(tmp_path / "robomimic/lift.hdf5"), SHA256):
        assert text in message
    assert "128,000 bytes" in message and "run the command again, which checks it" in message


def test_a_disk_that_is_too_small(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 1,000,000,000,000,000,000 bytes more, but only"):
        download(lift(server, size=10**18), tmp_path)
    assert left(tmp_path) == []


def test_two_processes(server: FileServer, tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "robomimic/lift.hdf5", "download"),
        pytest.raises(InputError, match=r"lift\.hdf5: .* is writing it now: wait until"),
    ):
        download(lift(server), tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("name", ["lift.hdf5.part", "lift.hdf5.part.version", "lift.hdf5.sha256"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_nothing_is_written_through_what_others_put_there(
    server: FileServer, tmp_path: Path, name: str, kind: str
) -> None:
    target, placed = tmp_path / "target", tmp_path / "robomimic" / name
    target.write_bytes(b"mine")
    placed.parent.mkdir()
    if kind == "link":
        placed.symlink_to(target)
    elif kind == "hard link":
        placed.hardlink_to(target)
    else:
        os.mkfifo(placed)
    if name.endswith(".part"):
        with pytest.raises(
            InputError, match=r"lift\.hdf5\.part: is a link, a file with another na"
        ):
            download(lift(server), tmp_path)
        assert server.requests == []
    else:
        assert Path(download(lift(server), tmp_path).path).read_bytes() == CONTENT
        assert left(tmp_path / "robomimic") == ["lift.hdf5", "lift.hdf5.sha256"]
    assert target.read_bytes() == b"mine"


def test_something_else_at_the_final_name(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "robomimic/lift.hdf5"
    path.parent.mkdir()
    path.symlink_to(tmp_path / "target")  # to nothing: it is replaced, not followed
    assert download(lift(server), tmp_path).fetched
    assert not path.is_symlink() and not (tmp_path / "target").exists()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(
        InputError, match=r"lift\.hdf5: expected a file, found something that is no"
    ):
        download(lift(server), tmp_path)


# -- archives -------------------------------------------------------------------------------------


def archive_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return stream.getvalue()


def pusht(server: FileServer, content: bytes) -> Location:
    server.files["/pusht.zip"] = content
    return Location(url=f"{server.url}/pusht.zip", path="pusht/a.zarr", archive="pusht.zip")


FILES = {"pusht/a.zarr/data/0.0": b"chunk", "pusht/a.zarr/.zgroup": b"{}", "pusht/other": b"x"}


def test_the_folder_of_an_archive(server: FileServer, tmp_path: Path) -> None:
    location = pusht(server, archive_of(FILES))
    done = download(location, tmp_path)
    assert done.path == str(tmp_path / "pusht/a.zarr") and done.fetched and not done.official
    assert left(tmp_path / "pusht") == ["a.zarr/.zgroup", "a.zarr/data/0.0", "pusht.zip.sha256"]
    server.requests.clear()
    assert not download(location, tmp_path).fetched
    assert server.requests == []


def test_an_archive_put_there_by_hand(server: FileServer, tmp_path: Path) -> None:
    location = pusht(server, b"")
    (tmp_path / "pusht").mkdir()
    (tmp_path / "pusht/pusht.zip").write_bytes(archive_of(FILES))
    download(location, tmp_path)
    assert (tmp_path / "pusht/a.zarr/data/0.0").read_bytes() == b"chunk"
    assert (tmp_path / "pusht/pusht.zip").exists() and server.requests == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "cannot be unpacked"),
        (archive_of({"pusht/other": b"x"}), r"holds no folder a\.zarr"),
        (archive_of({"a.zarr/../../../evil": b"x"}), r"holds a file 'a\.zarr/\.\./"),
        (archive_of({"a.zarr": b"x"}), r"holds a file 'a\.zarr'"),
    ],
)
def test_archives_that_are_wrong(
    server: FileServer, tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        download(pusht(server, content), tmp_path)
    assert not (tmp_path / "pusht/a.zarr").exists()


def test_an_archive_that_would_fill_the_disk(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_UNPACKED", 6)
    with pytest.raises(InputError, match="would unpack to 7 bytes"):
        download(pusht(server, archive_of(FILES)), tmp_path)


# -- the hub and the table ------------------------------------------------------------------------


def test_checksums_of_the_hub(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "address", lambda location: location.url)
    unstated = lift(server, size=None, sha256=None, hub_file="v1.5/lift.hdf5")
    assert download(unstated, tmp_path / "a").official
    changed = CONTENT[::-1]

    def fetch(*arguments: Any, **options: Any) -> None:
        server.files["/lift.hdf5"] = changed  # after the hub was asked
        real(*arguments, **options)

    real = file_download.http_get
    monkeypatch.setattr(file_download, "http_get", fetch)
    with pytest.raises(InputError, match=f"expected {SHA256}"):
        download(unstated, tmp_path / "b")
    server.server_close()
    with pytest.raises(InputError, match="cannot be downloaded"):
        download(unstated, tmp_path / "c")


def test_the_hub_sends_to_another_server(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "address", lambda location: location.url)
    server.breaks = [3000, 50_000]
    unstated = {"size": None, "sha256": None, "hub_file": "v1.5/lift.hdf5"}
    done = download(lift(server, url=f"{server.url}/hub/lift.hdf5", **unstated), tmp_path)
    assert done.official and done.sha256 == SHA256
    assert Path(done.path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/lift.hdf5", "bytes=53000-")


def test_the_table() -> None:
    for source, tasks in (("ph", 5), ("mh", 4)):
        names = [n for n in LOCATIONS if n.startswith("robomimic/") and n.endswith(f"/{source}")]
        assert len(names) == tasks
        for name in names:
            assert {f"{name}/raw", f"{name}/image"} <= set(LOCATIONS)
    paths = [location.path for location in LOCATIONS.values()]
    assert len(set(paths)) == len(paths)
    for location in LOCATIONS.values():
        assert bool(location.url) != bool(location.hub_file)
        assert location.sha256 is None or len(location.sha256) == 64
    lift_ph = find_location("robomimic/lift/ph/low_dim")
    assert lift_ph is LOCATIONS["robomimic/lift/ph"] and lift_ph.size == 21_084_088
    assert address(lift_ph) == (
        "https://huggingface.co/datasets/robomimic/robomimic_datasets/resolve/"
        "74fa018461f479cd9fd15b924a16103012096203/v1.5/lift/ph/low_dim_v15.hdf5"
    )
    with pytest.raises(InputError, match=r"no dataset 'robomimic/lift/hp'.*robomimic/lift/ph"):
        find_location("robomimic/lift/hp")
