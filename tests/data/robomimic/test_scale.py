"""Files larger than memory, and workers that read at the same time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lfm_policy.data.dataset import WindowDataset, build_datasets
from lfm_policy.data.robomimic.format import RobomimicConfig

pytestmark = pytest.mark.slow

_LOAD = """
import sys
from pathlib import Path
import numpy as np, torch
from lfm_policy.data.dataset import build_datasets
from lfm_policy.data.robomimic.format import RobomimicConfig

def kilobytes(name):
    (line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name)]
    return int(line.split()[1])

import h5py, lfm_policy.data.robomimic.file  # their memory is not the file's
path = Path(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = kilobytes("VmRSS")
bundle = build_datasets(
    RobomimicConfig(path=str(path), validation_ratio=0.0), 2, 8, 4, image_cache=path.parent / "c"
)
n_windows = len(bundle.train)
for begin in range(0, n_windows, 16):
    bundle.train.gather_obs(torch.arange(begin, min(begin + 16, n_windows)))
print(kilobytes("VmHWM") - before)
"""


def write(path: Path, n_demos: int, length: int, size: int) -> None:
    with h5py.File(path, "w") as file:
        for number in range(n_demos):
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs["num_samples"] = length
            demo["actions"] = np.full((length, 7), number / n_demos)
            demo["obs/object"] = np.arange(length * 3, dtype=float).reshape(length, 3) + number
            images = demo.create_dataset(
                "obs/agentview_image",
                (length, size, size, 3),
                np.uint8,
                chunks=(10, size, size, 3),
                compression="lzf",
            )
            for begin in range(0, length, 10):
                images[begin : begin + 10] = np.full((10, size, size, 3), number, np.uint8)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for its memory")
def test_images_larger_than_the_memory_that_is_used(tmp_path: Path) -> None:
    write(tmp_path / "demo.hdf5", n_demos=4, length=500, size=256)
    images_kilobytes = 4 * 500 * 256 * 256 * 3 // 1024  # 375 MiB
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(tmp_path / "demo.hdf5")],
        capture_output=True,
        text=True,
        check=True,
    )
    # Some parts of 32 MiB, mapped and not, are in memory, however large the file is.
    assert int(done.stdout) < images_kilobytes / 2
    shutil.rmtree(tmp_path)  # pytest would keep it for a while


@pytest.fixture
def dataset(tmp_path: Path) -> WindowDataset:
    write(tmp_path / "demo.hdf5", n_demos=3, length=20, size=8)
    config = RobomimicConfig(path=str(tmp_path / "demo.hdf5"), validation_ratio=0.0)
    return build_datasets(config, 2, 8, 4, image_cache=tmp_path / "cache").train


def test_no_handle_is_left_open(dataset: WindowDataset) -> None:
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0


def test_workers_get_the_same_windows(dataset: WindowDataset) -> None:
    def window(number: int) -> dict[str, torch.Tensor]:
        idx = torch.tensor([number])
        return {"action": dataset.gather_action(idx), **dataset.gather_obs(idx)}

    numbers = list(range(len(dataset)))
    loader = torch.utils.data.DataLoader(
        numbers,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=2,
        collate_fn=window,
        multiprocessing_context="fork",
    )
    for number, found in zip(numbers, loader, strict=True):
        expected = window(number)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value)


def test_processes_that_load_one_file_at_the_same_time(tmp_path: Path) -> None:
    write(tmp_path / "demo.hdf5", n_demos=3, length=20, size=8)
    code = (
        "import sys; from pathlib import Path; "
        "from lfm_policy.data.robomimic.format import RobomimicConfig; "
        "path = Path(sys.argv[1]); "
        "print(RobomimicConfig(path=str(path)).load(path.parent / 'cache').fingerprint())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "demo.hdf5")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    fingerprints = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert fingerprints[0] == fingerprints[1] != ""
    assert len(list((tmp_path / "cache").iterdir())) == 1
