"""What is broken in some episodes is said, and never left out in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from lfm_policy.cli.main import main
from lfm_policy.config import load_config
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.inspection import inspect_dataset

LENGTHS = (20, 18, 22, 19, 21, 20, 18, 23)
N_STEPS = sum(LENGTHS)
STARTS = np.cumsum((0, *LENGTHS[:-1]))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"action": 3, "joints": 4, "gripper": 1}
    return {
        key: np.cumsum(rng.normal(size=(N_STEPS, size)), axis=0).astype(np.float32)
        for key, size in sizes.items()
    }


def buffer(**more: np.ndarray) -> ReplayBuffer:
    return ReplayBuffer(arrays() | more, np.cumsum(LENGTHS))


def broken_hdf5(*demos: int, edit: Callable[[h5py.Group, str], None], **more: np.ndarray) -> str:
    """Write a file in which something was done to demos."""
    write_robomimic("arm.hdf5", buffer(**more))
    with h5py.File("arm.hdf5", "r+") as file:
        for demo in demos:
            edit(file[f"data/demo_{demo}/obs"], "joints")
    return "arm.hdf5"


def nan(obs: h5py.Group, key: str) -> None:
    obs[key][7, 2] = np.nan


def lacking(obs: h5py.Group, key: str) -> None:
    del obs[key]


def rewritten(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.Group, str], None]:
    def edit(obs: h5py.Group, key: str) -> None:
        values = obs[key][...]
        del obs[key]
        obs[key] = change(values)

    return edit


CASES = {
    "nan": (nan, "demo_{} holds nan in step 7"),
    "lacking": (lacking, "demo_{} lacks it"),
    "shape": (
        rewritten(lambda values: values[:, :3]),
        "demo_{} has float32 (3,) per step, where most have float32 (4,)",
    ),
    "length": (rewritten(lambda values: values[:-2]), "demo_{} has {rows} rows for {} steps"),
}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was written to standard error, which is one line."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("demos", [(0,), (3,), (0, 2, 5)])
@pytest.mark.parametrize("case", CASES)
def test_demos_that_are_broken_are_named(
    case: str, demos: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    edit, text = CASES[case]
    path = broken_hdf5(*demos, edit=edit)
    assert main(["init", path, "--quiet", "--device", "cpu"]) == 2
    error = said(capsys)
    assert f"arm.hdf5: obs/joints is broken in {len(demos)} of 8 episodes: " in error
    for demo in demos:
        number = text.replace("demo_{}", f"demo_{demo}")
        assert number.format(LENGTHS[demo], rows=LENGTHS[demo] - 2) in error
    assert error.endswith("repair or drop these episodes, or leave it out with --leave-out joints")
    assert not Path("arm.yaml").exists()
    # inspect says the same as a warning, of which the rest is looked at
    inspection = inspect_dataset(Path(path))
    (finding,) = (f for f in inspection.warnings if f.kind == "unusable_array")
    assert f"is broken in {len(demos)} of 8 episodes" in finding.message
    assert set(inspection.buffer.arrays) == {"action", "gripper"}


def test_many_episodes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    path = broken_hdf5(*range(6), edit=nan)
    assert main(["init", path, "--quiet"]) == 2
    error = said(capsys)
    assert "broken in 6 of 8 episodes: demo_0 holds" in error
    assert "demo_3 holds nan in step 7 and 2 more; " in error


def test_what_is_broken_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    path = broken_hdf5(3, edit=nan)
    assert main(["init", path, "--leave-out", "joint", "--quiet"]) == 2
    assert "'joint' cannot be left out: there is none; did you mean 'joints'?" in said(capsys)
    assert main(["init", path, "--leave-out", "joints", "--quiet", "--device", "cpu"]) == 0
    assert "left out: joints: as was asked for" in capsys.readouterr().out
    assert load_config("arm.yaml").dataset.obs_keys == ["gripper"]


@pytest.mark.parametrize("pose", [True, False])
def test_several_arrays_are_said_in_one_line(
    pose: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"pose": np.random.default_rng(3).normal(size=(N_STEPS, 2))} if pose else {}
    path = broken_hdf5(3, edit=nan, **more)
    with h5py.File(path, "r+") as file:
        lacking(file["data/demo_4/obs"], "gripper")
        file["data/demo_4/obs/reward"] = np.zeros(LENGTHS[4])  # which no policy would see
    assert main(["init", path, "--quiet"]) == 2
    error = said(capsys)
    assert "obs/gripper is broken in 1 of 8 episodes: demo_4 lacks it" in error
    assert "obs/joints is broken in 1 of 8 episodes: demo_3 holds nan" in error
    assert ("--leave-out gripper" in error) == pose  # else nothing would be left
    assert "--leave-out reward" not in error


def test_a_camera_that_demos_lack(capsys: pytest.CaptureFixture[str]) -> None:
    path = broken_hdf5(edit=nan, front=np.zeros((N_STEPS, 24, 32, 3), np.uint8))
    with h5py.File(path, "r+") as file:
        for demo in (1, 2):
            lacking(file[f"data/demo_{demo}/obs"], "front")
    assert main(["init", path, "--quiet"]) == 2
    assert "obs/front is broken in 2 of 8 episodes: demo_1 lacks it, demo_2 lacks it" in said(
        capsys
    )


def test_another_kind_is_left_out_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    path = broken_hdf5(edit=nan)
    with h5py.File(path, "r+") as file:
        for demo, length in enumerate(LENGTHS):
            obs = file[f"data/demo_{demo}/obs"]
            obs["text"] = ["pick"] * length
            obs["depth"] = np.ones((length, 30, 40), np.uint16)
            obs["events"] = np.ones((3, 2))
    assert main(["init", path, "--quiet", "--device", "cpu"]) == 0
    assert load_config("arm.yaml").dataset.obs_keys == ["gripper", "joints"]
    shown = capsys.readouterr()
    for key in ("text", "depth", "events"):
        assert f"left out: {key}: " in shown.out


def test_episodes_of_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    write_zarr("arm.zarr", buffer())
    joints = zarr.open_group("arm.zarr/data", mode="r+")["joints"]
    for episode in (2, 6):
        joints[STARTS[episode] + 4, 1] = np.nan
    assert main(["init", "arm.zarr", "--quiet"]) == 2
    assert (
        "arm.zarr: data/joints is broken in 2 of 8 episodes: episode 2 holds nan in step 4, "
        "episode 6 holds nan in step 4; repair or drop these episodes, or leave it out with "
        "--leave-out joints"
    ) in said(capsys)
    assert main(["init", "arm.zarr", "--leave-out", "joints", "--quiet", "--device", "cpu"]) == 0
    zarr.open_group("arm.zarr/data", mode="r+").create_array("cut", data=np.ones((N_STEPS - 9, 2)))
    capsys.readouterr()
    assert main(["init", "arm.zarr", "--leave-out", "joints", "--quiet", "--force"]) == 2
    error = said(capsys)
    assert f"data/cut has {N_STEPS - 9} steps" in error and "--leave-out cut" in error


def test_episodes_of_lerobot(capsys: pytest.CaptureFixture[str]) -> None:
    more = buffer().arrays["joints"].copy()
    more[STARTS[5] + 3, 0] = np.inf
    write_lerobot(Path("arm"), buffer(), fps=10)
    (file,) = Path("arm").glob("data/*/*.parquet")
    table = pq.read_table(file)
    column = table.column_names.index("observation.joints")
    values = pa.array(more.tolist(), pa.list_(pa.float32(), 4))
    pq.write_table(table.set_column(column, "observation.joints", values), file)
    assert main(["init", "arm", "--quiet"]) == 2
    assert (
        "arm: observation.joints is broken in 1 of 8 episodes: episode 5 holds inf in step 3; "
        "repair or drop these episodes, or leave it out with --leave-out observation.joints"
    ) in said(capsys)


@pytest.mark.parametrize("episode", [0, 2])
def test_episodes_of_lerobot_with_files_of_their_own(
    episode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As version 2 writes them: one file for each episode, of which one lacks a column."""
    write_lerobot(Path("arm"), buffer(), fps=10)
    root = Path("arm")
    (file,) = root.glob("data/*/*.parquet")
    table = pq.read_table(file)
    file.unlink()
    for number, (start, length) in enumerate(zip(STARTS, LENGTHS, strict=True)):
        part = table.slice(start, length)
        if number == episode:
            part = part.drop_columns(["observation.joints"])
        pq.write_table(part, file.with_name(f"episode_{number:06d}.parquet"))
    info = json.loads((root / "meta/info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "chunks_size": 1000,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    lines = [
        json.dumps({"episode_index": number, "length": length, "tasks": ["demonstration"]})
        for number, length in enumerate(LENGTHS)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines))
    assert main(["init", "arm", "--quiet"]) == 2
    error = said(capsys)
    assert f"observation.joints is broken in 1 of 8 episodes: episode {episode} " in error
    assert error.endswith("or leave it out with --leave-out observation.joints")


def test_images_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (N_STEPS, 24, 32, 3), np.uint8)
    write_zarr("arm.zarr", buffer(front=frames))
    share = frames.astype(np.float32) / 255
    zarr.open_group("arm.zarr/data", mode="r+").create_array("share", data=share)
    (chunk, *_) = sorted(Path("arm.zarr/data/front").glob("[0-9]*"))
    chunk.write_bytes(chunk.read_bytes()[:-100])
    assert main(["init", "arm.zarr", "--quiet"]) == 2
    error = said(capsys)
    assert "front is not usable: " in error and "--leave-out front" in error
    assert "share" not in error  # another kind, of which `inspect` warns
