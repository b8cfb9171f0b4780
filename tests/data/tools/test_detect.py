"""Which format a path is taken for."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py
import pytest

from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.data.zarr.store import load_zarr, write_zarr
from lfm_policy.errors import InputError


def test_zarr(small_zarr: Path, tmp_path: Path) -> None:
    assert detect_format(small_zarr) == detect_format(str(small_zarr)) == "zarr"
    write_zarr(tmp_path / "store", load_zarr(small_zarr, ["action"]))
    assert detect_format(tmp_path / "store") == "zarr"
    write_zarr(tmp_path / "data.zarr.zip", load_zarr(small_zarr, ["action"]))
    assert detect_format(tmp_path / "data.zarr.zip") == "zarr"


def test_a_zip_by_its_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data", "w") as archive:
        archive.writestr("data/action/.zarray", "{}")
    assert detect_format(tmp_path / "data") == "zarr"


@pytest.mark.parametrize("name", ["demo.hdf5", "demo.h5", "DEMO.HDF5", "demo"])
def test_robomimic(tmp_path: Path, name: str) -> None:
    h5py.File(tmp_path / name, "w").close()
    assert detect_format(tmp_path / name) == "robomimic"


def test_lerobot(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    assert detect_format(tmp_path) == "lerobot"


@pytest.mark.parametrize(
    ("name", "expected"), [("data.zarr.zip", "zarr"), ("demo.hdf5", "robomimic")]
)
def test_a_damaged_file_is_recognised_by_its_name(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert detect_format(tmp_path / name) == expected


def test_every_answer_is_a_format() -> None:
    assert {"zarr", "robomimic", "lerobot"} <= set(DATASET_FORMATS.names())


def test_a_name_of_the_hub_comes_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"dataset\.name=lerobot.*hf download robots/reach --repo"):
        detect_format("robots/reach")
    (tmp_path / "robots").mkdir()
    for name in ("robots/reach", "a/b/c", "reach"):
        with pytest.raises(InputError) as caught:
            detect_format(name)
        assert "hub" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "file.txt", "folder", "pipe"])
def test_nothing_that_is_known(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "folder" / "data").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="zarr replay buffer.*robomimic file.*LeRobot") as caught:
        detect_format(tmp_path / name)
    assert name[:20] in str(caught.value) and len(str(caught.value)) < 2000


def test_a_folder_of_datasets_says_how_to_learn_from_all(small_zarr: Path, tmp_path: Path) -> None:
    for name in ("first.zarr", "second.zarr"):
        write_zarr(tmp_path / name, load_zarr(small_zarr, ["action"]))
    with pytest.raises(InputError, match=r"holds 2 datasets, such as first.zarr: .*name=several"):
        detect_format(tmp_path)
    folder = tmp_path / "of lerobot"
    (folder / "mine" / "meta").mkdir(parents=True)
    (folder / "mine" / "meta" / "info.json").write_text("{}")
    with pytest.raises(InputError, match="holds 1 dataset, such as mine: name one"):
        detect_format(folder)
