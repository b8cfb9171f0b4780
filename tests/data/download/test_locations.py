"""Where demonstrations can be had that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfm_policy.data.download.locations import where_to_get
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.data.zarr.files import open_zarr_files
from lfm_policy.errors import InputError


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        (
            "data/pusht_cchi_v7_replay.zarr",
            "`lfm-policy download pusht` fetches it to data/pusht/pusht_cchi_v7_replay.zarr",
        ),
        ("data/pusht/pusht_cchi_v7_replay.zarr", "`lfm-policy download pusht` fetches it"),
        (
            "data/robomimic/can/ph/low_dim_v15.hdf5",
            "`lfm-policy download robomimic/can/ph` fetches it",
        ),
        (
            "data/tool_hang.hdf5",
            "`lfm-policy download robomimic/tool_hang/ph` fetches human demonstrations, "
            "`lfm-policy collect ToolHang --output data/tool_hang.hdf5` makes some",
        ),
    ],
)
def test_known_demonstrations(path: str, cure: str) -> None:
    assert where_to_get(path) == f"; {cure}"


def test_demonstrations_of_ones_own() -> None:
    for path in ("my_robot.zarr", "low_dim_v15.hdf5", "lift.zarr", "", "/"):
        assert where_to_get(path) == ""


def test_what_was_fetched_elsewhere(tmp_path: Path) -> None:
    fetched = tmp_path / "pusht" / "pusht_cchi_v7_replay.zarr"
    fetched.mkdir(parents=True)
    cure = where_to_get("pusht_cchi_v7_replay.zarr", data=tmp_path)
    assert cure == f"; it is at {fetched}: dataset.path={fetched}"


def test_readers_say_it(tmp_path: Path) -> None:
    for read in (open_zarr_files, detect_format):
        with pytest.raises(InputError, match=r"no such file.*`lfm-policy download pusht`"):
            read(tmp_path / "pusht_cchi_v7_replay.zarr")
