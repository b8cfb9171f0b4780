"""Depth that a store holds as levels, and of which it notes the range, as recordings do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lfm_policy.checking.demonstrations import options_for
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tasks.several import SeveralConfig
from lfm_policy.data.tools.convert import convert
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation.recordings import read_observations
from lfm_policy.errors import InputError
from lfm_runtime.policy.depth import depth_levels
from lfm_runtime.policy.spec import DataSpec

from ..images import test_depth

RANGE = (200.0, 1500.0)
DEPTH, NUMBERS = test_depth.DEPTH, test_depth.NUMBERS
LEVELS = depth_levels(DEPTH, *RANGE)[..., None]
KEYS = ["joints", "depth"]


def recorded(path: Path, noted: Any = RANGE) -> Path:
    arrays = {"action": NUMBERS, "joints": NUMBERS, "depth": LEVELS}
    depth = {} if noted is None else {"depth": noted}
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(test_depth.LENGTHS), depth=depth), fps=10)
    return path


def load(path: Path, **options: Any) -> ReplayBuffer:
    config = ZarrConfig(path=str(path), obs_keys=KEYS, **options)
    return config.load(ImageCache(path.parent / "cache"))


def test_levels_are_depth_of_the_noted_range(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.zarr")
    assert json.loads((path / ".zattrs").read_text())["depth"] == {"depth": [200, 1500]}
    for options in ({}, {"depth": {"depth": [200, 1500]}}):
        buffer = load(path, **options, rename={"depth": "wrist"})
        np.testing.assert_array_equal(buffer.arrays["wrist"], LEVELS)
        assert buffer.depth == {"wrist": RANGE}
    message = "holds levels of depth from 200 to 1500, and dataset.depth says 0 to 9; .* leave it"
    with pytest.raises(InputError, match=message):
        load(path, depth={"depth": [0, 9]})


def test_what_is_no_range_of_levels_is_left_alone(tmp_path: Path) -> None:
    for number, noted in enumerate((None, "mm", [1], [3, 2], ["a", "b"], [True, 2])):
        assert load(recorded(tmp_path / f"{number}.zarr", noted)).depth == {}
    test_depth.write_zarr(tmp_path, DEPTH)
    (tmp_path / "demo.zarr" / ".zattrs").write_text('{"depth": {"depth": [200, 1500], "x": 1}}')
    with pytest.raises(InputError, match=r"dataset\.depth="):  # these are distances
        load(tmp_path / "demo.zarr")


@pytest.mark.filterwarnings("ignore")
def test_levels_and_distances_go_together(tmp_path: Path) -> None:
    folder = tmp_path / "demos"
    folder.mkdir()
    recorded(folder / "run.zarr")
    test_depth.write_zarr(folder, DEPTH)
    each = {"obs_keys": KEYS, "depth": {"depth": list(RANGE)}}
    buffer = SeveralConfig(path=str(folder), each=each).load(ImageCache(tmp_path / "cache"))
    np.testing.assert_array_equal(buffer.arrays["depth"], np.concatenate([LEVELS, LEVELS]))
    assert buffer.depth == {"depth": RANGE}


@pytest.mark.filterwarnings("ignore")
def test_a_policy_reads_levels_and_distances_of_its_range_alone(tmp_path: Path) -> None:
    shapes = {"joints": (3,), "depth": LEVELS.shape[1:]}
    spec, cache = DataSpec(shapes, 3, depth={"depth": RANGE}), ImageCache(tmp_path / "cache")
    policy: Any = SimpleNamespace(spec=spec)
    noted = recorded(tmp_path / "noted.zarr")
    earlier = recorded(tmp_path / "earlier.zarr", None)
    distances = test_depth.write_zarr(tmp_path, DEPTH)
    # Trained on such levels, of which its configuration says nothing.
    trained: Any = SimpleNamespace(dataset=ZarrConfig(path=str(noted), obs_keys=KEYS))
    for path in map(str, (noted, earlier, distances)):
        read = [options_for(path, policy, config).load(cache) for config in (None, trained)]
        for buffer in (*read, read_observations(path, spec, cache, "the teacher", quiet=True)):
            np.testing.assert_array_equal(buffer.arrays["depth"], LEVELS)
    path = str(recorded(tmp_path / "other.zarr", (0.0, 9.0)))
    for config in (None, trained):
        with pytest.raises(InputError, match="levels of depth from 0 to 9"):
            options_for(path, policy, config).load(cache)
    with pytest.raises(InputError, match="levels of depth from 0 to 9"):
        read_observations(path, spec, cache, "the teacher", quiet=True)


def test_conversion_keeps_the_note_where_it_can(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.zarr")
    convert(path, tmp_path / "out.zarr")
    assert load(tmp_path / "out.zarr").depth == {"depth": RANGE}
    with pytest.warns(UserWarning, match="depth holds levels of depth, whose range zarr alone"):
        convert(path, tmp_path / "out.hdf5")
