"""Disks that are full, rows that do not fit, signals at the end: what was written stays."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.control.figure import recording_figure
from lfm_policy.control.recording import load_recording
from lfm_policy.data.zarr.store import load_arrays, load_zarr
from lfm_policy.errors import InputError
from lfm_runtime.control import Recorder
from lfm_runtime.control.recording import zarr_writer
from lfm_runtime.control.recording.zarr_writer import ArrayWriter, TableWriter
from lfm_runtime.control.result import CONTINUED, ChunkRecord, StepRecord

from .conftest import Bench

CAMERA = (32, 32, 3)


class Disk:
    """Counts what is in a folder; a write beyond its size fails and leaves half of the file."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.left_for_others = size

    def used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def write_bytes(self, path: Path, content: bytes) -> int:
        if self.used() + len(content) > self.left_for_others:
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        with path.open("wb") as file:
            return file.write(content)


def step(k: int, camera: np.ndarray | None = None, **values: Any) -> StepRecord:
    obs = {"next": np.array([k], np.float32)} | ({} if camera is None else {"camera": camera})
    facts: dict[str, Any] = {
        "time": k / 10,
        "observed": k / 10,
        "action": np.array([k], np.float32),
        "obs": obs,
        "kind": 0,
        "step": k,
        "chunk": k // 4,
        "limited": False,
        "obs_valid": True,
    }
    return StepRecord(**(facts | values))


def chunk(number: int, start: int, length: int, action_dim: int = 1) -> ChunkRecord:
    actions = np.arange(start, start + length, dtype=np.float32)[:, None]
    return ChunkRecord(
        number, start, 0, start / 10, start / 10, start / 10, 0, np.repeat(actions, action_dim, 1)
    )


def record_steps(recorder: Recorder, n_steps: int, camera: np.ndarray | None = None) -> None:
    for k in range(n_steps):
        if k % 4 == 0:
            recorder.chunk(chunk(k // 4, k, 8))
        recorder.step(step(k, camera if camera is None else camera[k % len(camera)]))


@settings(
    max_examples=25,
    deadline=None,
)
@given(
    size=st.integers(0, 60).map(lambda n: n * 8_000),
    with_camera=st.booleans(),
    small_chunks=st.booleans(),
)
def test_a_disk_that_fills_up_keeps_what_was_written_before(
    tmp_path_factory: pytest.TempPathFactory, size: int, with_camera: bool, small_chunks: bool
) -> None:
    tmp_path = tmp_path_factory.mktemp("disk")
    noise = np.random.default_rng(0).integers(0, 256, (7, *CAMERA), dtype=np.uint8)
    camera = noise if with_camera else None
    disk = Disk(tmp_path, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda path, content: disk.write_bytes(path, content))
        patch.setattr("lfm_runtime.control.recording.recorder._METADATA_BYTES", 20_000)
        patch.setattr(zarr_writer, "_CHUNK_BYTES", 4_000 if small_chunks else 2**16)
        recorder = Recorder(tmp_path / "run.zarr", {"hz": 10})
        record_steps(recorder, 120, camera)
        recorder.close()
    if not recorder.actions_kept:
        assert isinstance(recorder.error, OSError) and recorder.error.errno == errno.ENOSPC
        assert list(tmp_path.iterdir()) == []
        return
    kept = recorder.actions_kept
    assert (recorder.error is None) == (kept == 120)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    np.testing.assert_array_equal(episode.action[:, 0], np.arange(kept))
    keys = ["next", "camera"] if with_camera else ["next"]
    stored = load_zarr(tmp_path / "run.zarr", keys).arrays
    np.testing.assert_array_equal(stored["next"][:, 0], np.arange(kept))
    if with_camera:
        np.testing.assert_array_equal(stored["camera"], noise[np.arange(kept) % 7])
    starts = episode.chunks["start"]
    np.testing.assert_array_equal(starts, 4 * np.arange(len(starts)))
    np.testing.assert_array_equal(episode.chunks["action"][:, 0, 0], starts)


def test_the_rows_in_memory_have_their_space(tmp_path: Path) -> None:
    """Whenever the disk fills up, nothing is lost of what was recorded before."""
    recorder = Recorder(tmp_path / "run.zarr", {"hz": 10})
    record_steps(recorder, 50)
    while recorder._queue.qsize():
        os.sched_yield()
    disk = Disk(tmp_path, 0)
    disk.left_for_others = disk.used()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda path, content: disk.write_bytes(path, content))
        recorder.close()
    assert (recorder.error, recorder.actions_kept) == (None, 50)
    assert not list((tmp_path / "run.zarr").glob(".reserve*"))


def test_the_loop_goes_on_and_says_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = TableWriter.append

    def once(self: TableWriter, row: dict[str, Any]) -> None:
        append(self, row)
        if len(self) == 12:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TableWriter, "append", once)
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        for _ in range(3):
            assert Bench().run(30, recorder=recorder).steps == 30
    assert recorder.actions_kept == 12
    assert caplog.text.count("No space left") == 1
    assert [len(episode.action) for episode in load_recording(tmp_path / "run.zarr")] == [12]


@pytest.mark.parametrize(
    "other",
    [
        step(5, action=np.zeros(2, np.float32)),
        step(5, obs={"next": np.zeros(3, np.float32)}),
        step(5, obs={"other": np.zeros(1, np.float32)}),
    ],
)
def test_a_row_that_does_not_fit_ends_the_recording_before_it(
    tmp_path: Path, other: StepRecord
) -> None:
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        record_steps(recorder, 5)
        recorder.step(other)
        recorder.step(step(6))
    assert isinstance(recorder.error, ValueError)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    np.testing.assert_array_equal(episode.action[:, 0], range(5))


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30), rows=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_chunks_of_any_length(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], rows: int
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "run.zarr"
    with pytest.MonkeyPatch.context() as patch, Recorder(path, {"hz": 10}) as recorder:
        patch.setattr(zarr_writer, "_CHUNK_BYTES", 4 * 9 * rows)
        for k, length in enumerate(lengths):
            recorder.chunk(chunk(k, k, length))
            recorder.step(step(k))
        recorder.close()
    assert recorder.error is None
    (episode,) = load_recording(path).episodes
    np.testing.assert_array_equal(episode.chunks["length"], lengths)
    assert episode.chunks["action"].shape == (len(lengths), max(lengths), 1)
    for k, length in enumerate(lengths):
        actions = episode.chunks["action"][k, :, 0]
        np.testing.assert_array_equal(actions[:length], np.arange(k, k + length))
        assert np.isnan(actions[length:]).all()


def test_a_policy_whose_chunks_have_any_length_is_recorded(tmp_path: Path) -> None:
    bench = Bench()
    sample = bench.policy.sample

    def shorter(batch: Any) -> Any:
        sampled = sample(batch)
        return type(sampled)(sampled.chunk[:, : 9 - len(bench.policy.calls) % 3])

    bench.policy.sample = shorter
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        bench.run(40, lead=1, recorder=recorder)
    assert recorder.error is None
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    assert set(episode.chunks["length"]) == {6, 7, 8}
    actions, *_ = recording_figure("run", episode).get_axes()
    drawn = {part.get_label(): part for part in actions.collections}
    lengths = episode.chunks["length"].tolist()
    for k, name in enumerate(("planned", "planned, every other chunk")):
        assert [len(line) for line in drawn[name].get_segments()] == lengths[k::2]


def test_chunks_of_other_actions_end_the_recording(tmp_path: Path) -> None:
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        record_steps(recorder, 5)
        recorder.chunk(chunk(2, 5, 8, action_dim=2))
    assert isinstance(recorder.error, ValueError)
    assert recorder.actions_kept == 5


def test_an_action_whose_act_raised_is_recorded_as_failed(tmp_path: Path) -> None:
    bench = Bench()
    act = bench.robot.act

    def fail(action: np.ndarray) -> None:
        if len(bench.robot.acted) == 6:
            raise OSError("the bus")
        act(action)

    bench.robot.act = fail
    with (
        pytest.raises(OSError, match="the bus"),
        Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder,
    ):
        bench.run(30, lead=1, recorder=recorder)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    np.testing.assert_array_equal(episode.action[:, 0], range(7))
    np.testing.assert_array_equal(episode.steps["failed"], [0] * 6 + [1])
    assert episode.summary()["failed"] == 1
    assert bench.robot.stops == 1


def test_a_recorder_that_raises_does_not_end_the_run(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        ended = 0

        def note(self, name: str, value: Any) -> None: ...

        def step(self, record: Any) -> None:
            raise RuntimeError("no more paper")

        chunk = step

        def end_episode(self) -> None:
            self.ended += 1

    recorder = Broken()
    assert bench.run(30, recorder=recorder).steps == 30  # type: ignore[arg-type]
    assert caplog.text.count("no more paper") == 1
    assert recorder.ended == 1


def test_signals_wait_until_the_recording_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = ArrayWriter.finish

    def interrupted(self: ArrayWriter, length: int | None = None) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finish(self, length)

    monkeypatch.setattr(ArrayWriter, "finish", interrupted)
    recorder = Recorder(tmp_path / "run.zarr", {"hz": 10})
    record_steps(recorder, 10)
    with pytest.raises(KeyboardInterrupt):
        recorder.close()
    assert len(load_recording(tmp_path / "run.zarr").episode(0).action) == 10


def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with Recorder(path, {"hz": 10}) as recorder:
        record_steps(recorder, 5)
        path.mkdir()
        (path / "mine").touch()
    assert recorder.path == tmp_path / "run-2.zarr"
    assert isinstance(recorder.error, FileExistsError)
    assert len(load_recording(recorder.path).episode(0).action) == 5
    assert [entry.name for entry in path.iterdir()] == ["mine"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["run-2.zarr", "run.zarr"]


@pytest.mark.parametrize("value", [np.float32(1), np.nan, {1, 2}])
def test_attributes_that_are_no_json_are_refused_at_the_start(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match="attributes cannot be stored as JSON"):
        Recorder(tmp_path / "run.zarr", {"hz": 10, "limits": value})
    assert list(tmp_path.iterdir()) == []


def test_recordings_of_before_have_no_failures_and_whole_chunks(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with Recorder(path, {"hz": 10}) as recorder:
        record_steps(recorder, 10)
        recorder.step(step(10, kind=CONTINUED))
    for name in ("steps/failed", "chunks/length"):
        for file in (path / name).iterdir():
            file.unlink()
        (path / name).rmdir()
    (episode,) = load_recording(path).episodes
    assert episode.steps["failed"].sum() == 0
    np.testing.assert_array_equal(episode.chunks["length"], [8, 8, 8])
    assert load_arrays(path, ["chunks/action"])["chunks/action"].shape == (3, 8, 1)
