"""Stores whose files are not what they seem: pipes, devices, links, bombs. Nothing may hang."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.data.zarr import files as zarr_files
from lfm_policy.data.zarr.files import open_zarr_files
from lfm_policy.data.zarr.store import list_zarr, load_zarr, write_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

pytestmark = [pytest.mark.timeout(60), pytest.mark.slow]

ENDS = np.array([7, 12, 20])
STATE = np.random.default_rng(1).normal(size=(20, 5))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    arrays = {
        "action": np.random.default_rng(0).normal(size=(20, 2)),
        "state": STATE,
        "unused": np.ones((20, 1)),
    }
    write_zarr(tmp_path / "demo.zarr", ReplayBuffer(arrays, ENDS))
    return tmp_path / "demo.zarr"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_out(path: Path) -> None:
    outside = next(p for p in path.parents if p.suffix == ".zarr").parent / "secret"
    outside.write_text('{"zarr_format": 2}')
    path.symlink_to(outside)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def circle(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.mkdir()


def giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no disk


BAD: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (pipe, device, link_out, dangling, circle, listening, folder, giant)
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", [".zarray", ".zattrs", "0.0"])
def test_a_file_that_is_none(store: Path, limited_memory: None, kind: str, name: str) -> None:
    victim = store / "data" / "state" / name
    victim.unlink(missing_ok=True)
    BAD[kind](victim)
    assert load_zarr(store, ["action"]).n_steps == 20  # nothing else is touched
    absent = kind in ("dangling", "circle") or (kind == "folder" and name != ".zattrs")
    if name == ".zattrs" and absent:
        np.testing.assert_array_equal(load_zarr(store, ["state"]).arrays["state"], STATE)
        return
    with pytest.raises(InputError, match="data/state") as caught:
        load_zarr(store, ["state"])
    message = str(caught.value)
    expected = {
        "pipe": "is not a regular file",
        "device": "is a link that leads out of the store",
        "link_out": "is a link that leads out of the store",
        "listening": "is not a regular file",
        "folder": "is not a regular file",
        "giant": "bytes, expected",
    }
    if not absent:
        assert name in message and expected[kind] in message and "damaged; copy" not in message
    assert "zarr_format" not in message  # nothing of another file's content is shown


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", [".zmetadata", "data/.zgroup", "data/.zattrs", "zarr.json"])
def test_metadata_that_nobody_needs(
    store: Path, limited_memory: None, kind: str, name: str
) -> None:
    (store / name).unlink(missing_ok=True)
    BAD[kind](store / name)
    np.testing.assert_array_equal(load_zarr(store, ["state"]).arrays["state"], STATE)
    assert detect_format(store) == "zarr" and set(list_zarr(store).readable) == {
        *("action", "state", "unused")
    }


@pytest.mark.parametrize("kind", ["pipe", "device", "giant"])
@pytest.mark.parametrize("place", ["data/state/zarr.json", "data/zarr.json", "zarr.json"])
def test_metadata_of_version_3(store: Path, limited_memory: None, kind: str, place: str) -> None:
    BAD[kind](store / place)
    inspection = inspect_dataset(store)
    assert ("state" in inspection.buffer.arrays) == (place != "data/state/zarr.json")
    assert "action" in inspection.buffer.arrays


def test_inspect_says_which_array_is_left_out_and_reads_the_others(store: Path) -> None:
    (store / "data/unused/.zarray").unlink()
    pipe(store / "data/unused/.zarray")
    inspection = inspect_dataset(store)
    assert set(inspection.buffer.arrays) == {"action", "state"}
    (finding,) = (f for f in inspection.warnings if f.kind == "unusable_array")
    assert finding.facts["key"] == "unused"
    assert "unused is not usable" in finding.message
    assert "data/unused/.zarray is not a regular file" in finding.message


def test_a_store_behind_a_link_and_links_inside_it_are_read(store: Path, tmp_path: Path) -> None:
    shutil.move(store / "data/state/0.0", store / "chunk")
    (store / "data/state/0.0").symlink_to(store / "chunk")
    (tmp_path / "link.zarr").symlink_to(store)
    buffer = load_zarr(tmp_path / "link.zarr", ["state"])
    np.testing.assert_array_equal(buffer.arrays["state"], STATE)


def test_links_of_a_hub_s_cache_are_read(store: Path, tmp_path: Path) -> None:
    """A snapshot is a folder of links to files beside it."""
    blobs, snapshot = tmp_path / "hub/blobs", tmp_path / "hub/snapshots/abc/demo.zarr"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(f for f in store.rglob("*") if f.is_file())):
        shutil.copy(file, blobs / str(number))
        link = snapshot / file.relative_to(store)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    np.testing.assert_array_equal(load_zarr(snapshot, ["state"]).arrays["state"], STATE)
    # ... but not where `blobs` itself leads elsewhere
    shutil.move(blobs, tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of the store"):
        load_zarr(snapshot, ["state"])


@pytest.mark.parametrize("name", ["demo.zarr.zip", "demo.zarr"])
def test_the_store_itself_is_a_pipe(tmp_path: Path, name: str) -> None:
    pipe(tmp_path / name)
    with pytest.raises(InputError, match="expected a file, found something that is not a regular"):
        load_zarr(tmp_path / name, ["state"])


# --- zips -----------------------------------------------------------------------------------------


@pytest.fixture
def packed(store: Path, tmp_path: Path) -> Path:
    """The store as a zip without compression."""
    path = tmp_path / "demo.zarr.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(f for f in store.rglob("*") if f.is_file()):
            archive.write(file, file.relative_to(store))
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_zarr(path, ["state"])


def repack(path: Path, target: Path, method: int = zipfile.ZIP_STORED, **contents: bytes) -> Path:
    """Pack a zip again with other contents for some names."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", method) as archive:
        for name in source.namelist():
            archive.writestr(name, contents.get(name, source.read(name)))
    return target


@pytest.mark.parametrize("name", ["data/state/.zarray", "data/state/.zattrs"])
def test_metadata_that_is_a_bomb(
    packed: Path, tmp_path: Path, limited_memory: None, name: str
) -> None:
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for entry in source.namelist():
            if entry != name:
                archive.writestr(entry, source.read(entry))
        archive.writestr(name, bytes(2**28), zipfile.ZIP_DEFLATED)
    refused(tmp_path / "b.zip", f"{name} has 268,435,456 bytes, expected metadata")
    assert load_zarr(tmp_path / "b.zip", ["action"]).n_steps == 20


def patch_directory(path: Path, name: str, field: int, value: int) -> None:
    """Change a 4-byte number in a zip's directory, at an offset within the entry of ``name``."""
    content = bytearray(path.read_bytes())
    begin = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    struct.pack_into("<I", content, begin + field, value)
    path.write_bytes(content)


COMPRESSED, UNPACKED = 20, 24


def test_more_is_packed_than_announced(packed: Path, tmp_path: Path, limited_memory: None) -> None:
    """Only as much is unpacked as the zip's directory announces."""
    name = "data/state/.zarray"
    bomb = repack(packed, tmp_path / "b.zip", zipfile.ZIP_DEFLATED, **{name: bytes(2**28)})
    patch_directory(bomb, name, UNPACKED, 300)
    refused(bomb, "the metadata of data/state cannot be read")


@pytest.mark.parametrize("size", [2**31, 2**31 + 5])
def test_more_is_announced_than_packed(packed: Path, limited_memory: None, size: int) -> None:
    patch_directory(packed, "data/state/0.0", UNPACKED, size)
    refused(packed, rf"data/state: chunk 0.0 has {size:,} bytes, expected at most")


def test_entries_that_overlap(packed: Path) -> None:
    for name in ("data/state/0.0", "data/action/0.0", "data/unused/0.0"):
        patch_directory(packed, name, COMPRESSED, packed.stat().st_size // 2)
    refused(packed, "its entries claim .* bytes, more than the whole file has: they overlap")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_entries_of_one_name_the_last_counts_in_every_check(packed: Path) -> None:
    """As in stores that were written to again; the first may be anything."""
    with zipfile.ZipFile(packed) as archive:
        good = archive.read("data/state/0.0")
        state = json.loads(archive.read("data/state/.zarray"))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("data/state/0.0", b"nonsense")
        archive.writestr("data/state/0.0", good)
        archive.writestr("data/unused/.zarray", json.dumps(state))  # 1 column says 5
    np.testing.assert_array_equal(load_zarr(packed, ["state"]).arrays["state"], STATE)
    assert list_zarr(packed).readable["unused"].shape == (20, 5)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("data/state/0.0", b"nonsense")
    refused(packed, "data/state: chunk 0.0 cannot be decoded")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd/.zarray", "../up/.zarray", "data/../up/.zarray", "data//x/.zarray",
     "data\\x/.zarray", "data/\x1b[2J/.zarray"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_passed_over(packed: Path, name: str) -> None:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, b"{}")
    assert set(list_zarr(packed).readable) == {"action", "state", "unused"}
    files = open_zarr_files(packed)
    assert name not in set(files.names()) and files.read(name) is None
    files.close()


def test_an_encrypted_entry(packed: Path) -> None:
    content = bytearray(packed.read_bytes())
    begin = content.rindex(b"PK\x01\x02", 0, content.rindex(b"data/state/0.0"))
    content[begin + 8] |= 1
    packed.write_bytes(content)
    refused(packed, "data/state: chunk 0.0 is encrypted; pack the store without a password")
    assert load_zarr(packed, ["action"]).n_steps == 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound(packed: Path, tmp_path: Path, method: int) -> None:
    bomb = repack(packed, tmp_path / "b.zip", method)
    refused(bomb, f"is packed by method {method} of zip files.*pack the store without compression")


def test_a_deflated_zip_is_read(packed: Path, tmp_path: Path) -> None:
    path = repack(packed, tmp_path / "b.zip", zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(load_zarr(path, ["state"]).arrays["state"], STATE)


def test_a_directory_of_too_many_files(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(packed) as archive:
        size = sum(46 + len(name) for name in archive.namelist())
    monkeypatch.setattr(zarr_files, "MAXIMUM_ZIP_DIRECTORY_BYTES", size)
    assert load_zarr(packed, ["state"]).n_steps == 20
    monkeypatch.setattr(zarr_files, "MAXIMUM_ZIP_DIRECTORY_BYTES", size - 1)
    refused(packed, f"its list of files takes {size:,} bytes, expected at most {size - 1:,}")


def test_a_chunk_larger_than_its_values_is_no_chunk(packed: Path, tmp_path: Path) -> None:
    """Of a sparse file zarr would read every byte."""
    large = repack(packed, tmp_path / "b.zip", **{"data/state/0.0": bytes(2**21)})
    refused(large, "chunk 0.0 has 2,097,152 bytes, expected at most 1,061,376 for 800 bytes of")
