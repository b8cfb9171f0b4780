"""Collection on a local Ray of two workers."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from lfm_policy.collect import CollectOptions, collect
from lfm_policy.collect.workers import RayWorkers
from lfm_policy.errors import InputError

pytestmark = [pytest.mark.simulator, pytest.mark.ray]

# Ray makes its workers wait for everything else on the machine: for other tests, too.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - what Ray calls it
pytest.importorskip("ray", reason="the runner 'ray' needs the extra 'ray'")

FEW = CollectOptions("PushT", episodes=2, seed_start=300_000)


def _contents(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_a_cluster_without_ray_as_runner_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs runner ray"):
        collect(tmp_path / "a.hdf5", FEW, ray_address="auto")


def test_the_file_is_that_of_local_workers_although_one_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    local = collect(tmp_path / "local.hdf5", FEW)
    killed: list[int] = []
    ended = RayWorkers.collect

    def kill_one(self: RayWorkers, timeout: float) -> list[tuple[int, bool]]:
        results = ended(self, timeout)
        if not killed:
            for process in psutil.process_iter(["cmdline"]):
                if "ray::_record" in " ".join(process.info["cmdline"] or []):
                    killed.append(process.pid)
                    process.kill()
                    break
        return results

    monkeypatch.setattr(RayWorkers, "collect", kill_one)
    there = collect(tmp_path / "ray.hdf5", FEW, workers=2, runner="ray")
    assert killed
    assert there.crashes == 1
    assert (there.demos, there.attempts, there.steps) == (local.demos, local.attempts, local.steps)
    first, second = _contents(tmp_path / "local.hdf5"), _contents(tmp_path / "ray.hdf5")
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert np.array_equal(value, second[name]), name
