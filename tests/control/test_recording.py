"""Recordings: read back, trained on, drawn, and what is wrong with damaged ones."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lfm_policy import Dataset
from lfm_policy.config import load_config
from lfm_policy.control.figure import recording_figure
from lfm_policy.control.recording import (
    ACTION_NAMES,
    RecordedOutcome,
    load_recording,
    outcome_attribute,
)
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import load_zarr
from lfm_policy.errors import InputError
from lfm_policy.pictures import drawing, save
from lfm_policy.training import train
from lfm_runtime.control import Recorder
from lfm_runtime.control.recording import recorder as runtime_recording
from lfm_runtime.control.recording.zarr_writer import ArrayWriter, TableWriter
from lfm_runtime.control.result import HELD
from lfm_runtime.policy.depth import depth_levels
from lfm_runtime.policy.spec import DataSpec

from .conftest import Bench


def record(path: Path, episodes: int = 2, ticks: int = 30, **options: Any) -> Path:
    with Recorder(path, {"hz": 10, "robot": "counter"}) as recorder:
        for _ in range(episodes):
            Bench().run(ticks, recorder=recorder, **options)
    return path


def test_a_recording_holds_what_happened(tmp_path: Path) -> None:
    path = record(
        tmp_path / "run.zarr", delay=lambda k: 0.2 if k in (0, 3) else 0.1, lead=1, patience=0.0
    )
    recording = load_recording(path)
    assert recording.attributes["robot"] == "counter"
    assert len(recording.episodes) == 2
    for episode in recording:
        assert episode.hz == 10
        held = episode.steps["kind"] == HELD
        assert held.sum() == episode.summary()["held"] == 1
        np.testing.assert_array_equal(episode.action[~held, 0], np.arange((~held).sum()))
        np.testing.assert_array_equal(episode.steps["step"][~held], np.arange((~held).sum()))
        np.testing.assert_allclose(np.diff(episode.steps["time"]), 0.1)
        assert episode.chunks["action"].shape[1:] == (8, 1)
        np.testing.assert_allclose(
            (episode.chunks["answered_at"] - episode.chunks["asked_at"])[:4], [0.2, 0.1, 0.1, 0.2]
        )
        np.testing.assert_array_equal(episode.chunks["consumed"][:4], [0, 1, 1, 1])
        np.testing.assert_array_equal(
            episode.chunks["action"][:, 0, 0], episode.chunks["start"].astype(float)
        )
    assert recording.episode(1).summary()["deadline_misses"] == 1


def test_the_loop_says_its_rate(tmp_path: Path) -> None:
    for number, told in enumerate(({}, {"hz": 50})):
        with Recorder(tmp_path / f"{number}.zarr", told) as recorder:
            Bench().run(5, recorder=recorder)
        assert Dataset.open(tmp_path / f"{number}.zarr").fps == 10


def test_the_loop_says_which_levels_are_depth(tmp_path: Path) -> None:
    bench = Bench()
    bench.policy.spec = DataSpec({"next": (1,), "wrist": (8, 9, 1)}, 1, depth={"wrist": (0.2, 1.5)})
    depth = np.random.default_rng(0).uniform(0.1, 2, (8, 9)).astype(np.float32)
    bench.robot.before_observe = lambda seen: {"next": np.zeros(1), "wrist": depth}
    with Recorder(tmp_path / "run.zarr") as recorder:
        bench.run(5, recorder=recorder)
    buffer = ZarrConfig(path=str(tmp_path / "run.zarr"), obs_keys=["wrist"]).load(tmp_path)
    assert buffer.depth == {"wrist": (0.2, 1.5)}
    levels = depth_levels(depth, 0.2, 1.5)[..., None]
    np.testing.assert_array_equal(buffer.arrays["wrist"], np.stack([levels] * 5))


def test_bad_observations_and_limits_are_marked(tmp_path: Path) -> None:
    bench = Bench()
    bench.robot.before_observe = lambda seen: "missing" if seen in (5, 6) else None
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        bench.run(20, recorder=recorder, lead=1, high=9.0)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    np.testing.assert_array_equal(np.flatnonzero(episode.steps["obs_valid"] == 0), [5, 6])
    assert episode.summary()["bad_observations"] == 2
    assert episode.summary()["limited"] == (episode.action[:, 0] == 9).sum() - 1 > 0
    observed = load_zarr(tmp_path / "run.zarr", ["next"]).arrays["next"]
    np.testing.assert_array_equal(observed[4:7, 0], [4, 4, 4])


def test_a_recording_can_be_trained_on(tmp_path: Path) -> None:
    path = record(tmp_path / "run.zarr", episodes=3)
    options = {
        "dataset": {"name": "zarr", "path": str(path), "obs_keys": ["next"]},
        "policy": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3},
        "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 1},
        "training": {"total_steps": 3, "batch_size": 4, "warmup_steps": 1},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(options))
    config = load_config(str(file))
    assert train(config, tmp_path / "trained", device="cpu", quiet=True).exists()


def test_images_are_recorded_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 40, 3), dtype=np.uint8)
    bench = Bench()
    bench.policy.spec = type(bench.policy.spec)({"next": (1,), "camera": (32, 40, 3)}, 1)
    observe = bench.robot.observe
    bench.robot.observe = lambda: {**observe(), "camera": images[bench.robot.seen - 1]}
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        bench.run(30, recorder=recorder)
    stored = load_zarr(tmp_path / "run.zarr", ["camera"]).arrays["camera"]
    np.testing.assert_array_equal(stored, images)


def test_what_led_to_an_error_is_kept(tmp_path: Path) -> None:
    bench = Bench()

    def fail(seen: int) -> None:
        if seen == 12:
            raise OSError("the cable")

    bench.robot.before_observe = fail
    with (
        pytest.raises(OSError, match="the cable"),
        Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder,
    ):
        bench.run(30, recorder=recorder)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    assert len(episode.action) == 12


def test_nothing_is_left_where_nothing_was_executed(tmp_path: Path) -> None:
    bench = Bench()
    bench.robot.before_observe = lambda seen: "missing"
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        bench.run(5, recorder=recorder)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_never_overwritten(tmp_path: Path) -> None:
    record(tmp_path / "run.zarr")
    with pytest.raises(InputError, match="exists already"):
        Recorder(tmp_path / "run.zarr")


def test_a_disk_that_is_full_from_the_start_is_said_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: ArrayWriter, row: Any) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(ArrayWriter, "append", full)
    bench = Bench()
    recorder = Recorder(tmp_path / "run.zarr", {"hz": 10})
    assert bench.run(20, recorder=recorder).reason == "max_ticks"
    recorder.close()
    assert list(tmp_path.iterdir()) == []
    assert recorder.actions_kept == 0
    assert isinstance(recorder.error, OSError) and recorder.error.errno == 28
    assert caplog.text.count("no space left on device") == 1


def test_a_slow_disk_ends_the_recording_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = threading.Event()
    append = TableWriter.append

    def slow(self: TableWriter, rows: Any) -> None:
        assert disk.wait(20)
        append(self, rows)

    monkeypatch.setattr(TableWriter, "append", slow)
    monkeypatch.setattr(runtime_recording, "_ROW_BYTES", 1000)
    monkeypatch.setattr(runtime_recording, "_QUEUE_BYTES", 9_000)
    recorder = Recorder(tmp_path / "run.zarr", {"hz": 10})
    assert Bench().run(20, recorder=recorder).steps == 20
    assert "too slow" in caplog.text and isinstance(recorder.error, TimeoutError)
    disk.set()
    recorder.close()
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    assert 0 < len(episode.action) < 9  # chunks take room, too


def test_a_run_in_simulated_time_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_recording, "_QUEUE_BYTES", 1)
    recorder = Recorder(tmp_path / "run.zarr", {"hz": 10}, wait=True)
    assert Bench().run(20, recorder=recorder).steps == 20
    recorder.close()
    assert recorder.error is None and recorder.actions_kept == 20


def test_times_of_steps_that_never_were_follow_at_the_rate(tmp_path: Path) -> None:
    (episode,) = load_recording(record(tmp_path / "run.zarr", episodes=1, ticks=10)).episodes
    np.testing.assert_allclose(episode.step_times(12), np.arange(13) / 10)


@pytest.mark.parametrize("joining", ["replace", "ensemble"])
def test_a_run_is_drawn(tmp_path: Path, joining: str) -> None:
    path = record(
        tmp_path / "run.zarr", 1, delay=lambda k: 0.4 if k == 2 else 0.0, lead=1, joining=joining
    )
    (episode,) = load_recording(path).episodes
    with drawing() as theme:
        figure = recording_figure("run", episode, theme, run_by="a policy on a counter")
        save(figure, tmp_path / "run.png")
    actions, latency, histogram, between = figure.get_axes()
    (executed,) = [line for line in actions.lines if line.get_label() == "executed"]
    np.testing.assert_allclose(executed.get_ydata(), episode.action[:, 0])
    drawn = {collection.get_label(): collection for collection in actions.collections}
    planned = [drawn[name].get_segments() for name in ("planned", "planned, every other chunk")]
    assert sum(map(len, planned)) == len(episode.chunks["start"])
    joins = [segment[0, 0] for segment in drawn["chunks join"].get_segments()]
    changes = np.diff(episode.steps["chunk"]) != 0
    np.testing.assert_allclose(joins, episode.steps["time"][1:][changes])
    assert len(drawn["held"].get_offsets()) == (episode.steps["kind"] == HELD).sum() > 0
    assert "limited" not in drawn and "bad observation" not in drawn
    for axes in (actions, latency, histogram, between):
        assert axes.get_xlabel() and axes.get_ylabel()
    assert actions.get_ylabel() == "action[0]"
    for axes, at in ((latency, "y"), (histogram, "x"), (between, "y")):
        (period,) = [line for line in axes.lines if line.get_gid() == "period"]
        assert getattr(period, f"get_{at}data")()[0] == pytest.approx(100)
    assert sum(bar.get_height() for bar in histogram.patches) == len(episode.chunks["start"])
    words = " ".join(text.get_text() for text in figure.texts)
    assert "a policy on a counter, 10 Hz" in words and "success" not in words
    # What is above and beside the curves hides none of them.
    legend = actions.get_legend().get_window_extent()
    assert legend.x0 >= actions.bbox.x1


def test_marks_of_what_went_wrong_and_how_it_ended(tmp_path: Path) -> None:
    bench = Bench()
    bench.robot.before_observe = lambda seen: "missing" if seen in (5, 6) else None
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        bench.run(20, recorder=recorder, lead=1, high=9.0)
        assert recorder.episodes == 1
        recorder.note(ACTION_NAMES, ["a gripper of a very long name"])
        facts = {"seed": 7, "ended": "done", "success": False, "max_reward": 0.9951}
        recorder.note(outcome_attribute(0), facts)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    assert episode.outcome == RecordedOutcome(**facts)
    with drawing() as theme:
        actions, *_ = (figure := recording_figure("run", episode, theme)).get_axes()
    drawn = {collection.get_label(): collection for collection in actions.collections}
    assert len(drawn["bad observation"].get_offsets()) == 2
    assert len(drawn["limited"].get_offsets()) == episode.summary()["limited"] > 0
    assert actions.get_ylabel() == "a gripper of a ve…"
    (end,) = [line for line in actions.lines if line.get_gid() == "end"]
    assert end.get_xdata()[0] == episode.steps["time"][-1]
    words = " ".join(text.get_text() for text in figure.texts)
    assert "seed 7, no success, largest reward 0.995, ended: done" in words


@pytest.mark.parametrize(
    "facts", [None, 3, {}, {"seed": "x", "ended": 1, "success": 2, "max_reward": "much"}]
)
def test_an_outcome_that_says_nothing(tmp_path: Path, facts: Any) -> None:
    path = record(tmp_path / "run.zarr", episodes=1)
    replace_attributes(path, **{outcome_attribute(0): facts, ACTION_NAMES: ["one", "too many"]})
    (episode,) = load_recording(path).episodes
    assert episode.outcome == RecordedOutcome() and episode.action_names == ()
    with pytest.raises(ValueError), Recorder(tmp_path / "other.zarr") as recorder:
        recorder.note("reward", float("nan"))


# -- damaged ------------------------------------------------------------------------------------


def replace_attributes(path: Path, **values: Any) -> None:
    file = path / ".zattrs"
    attributes = json.loads(file.read_text())
    file.write_text(json.dumps(attributes | values))


def test_a_replay_buffer_is_no_recording(small_zarr: Path) -> None:
    with pytest.raises(InputError, match="no recording of the control loop"):
        load_recording(small_zarr)
    with pytest.raises(InputError, match="nowhere"):
        load_recording(small_zarr.with_name("nowhere.zarr"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device", "giant", "nested"])
def test_attributes_that_are_no_small_file(tmp_path: Path, kind: str) -> None:
    """A pipe would wait, a device would never end."""
    path = record(tmp_path / "run.zarr") / ".zattrs"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "giant":
        with path.open("wb") as file:
            file.truncate(2**40)  # takes no disk
    else:
        path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="no recording of the control loop: .zattrs cannot be"):
        load_recording(path.parent)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"format_version": 99}, "format_version is 99"), ({"hz": 0}, "hz is 0"), ({"hz": "a"}, "hz")],
)
def test_attributes_are_checked(tmp_path: Path, values: Any, message: str) -> None:
    path = record(tmp_path / "run.zarr")
    replace_attributes(path, **values)
    with pytest.raises(InputError, match=message):
        load_recording(path)


def rewrite(path: Path, name: str, values: np.ndarray) -> None:
    folder = path / name
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    writer = ArrayWriter(folder, values.shape[1:], values.dtype)
    for row in values:
        writer.append(row)
    writer.finish()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("steps/kind", np.zeros(3, np.uint8), "steps/kind has shape"),
        ("steps/time", np.full(60, np.nan), "steps/time has shape"),
        ("steps/step", np.full(60, 10**15), "steps/step holds"),
        ("chunks/start", np.full(16, -5), "chunks/start holds"),
        ("chunks/action", np.zeros((16, 8, 3), np.float32), "chunks/action has shape"),
    ],
)
def test_arrays_are_checked(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    path = record(tmp_path / "run.zarr")
    assert len(load_recording(path).episode(0).chunks["start"]) == 8
    rewrite(path, name, values)
    with pytest.raises(InputError, match=message):
        load_recording(path)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    path = record(tmp_path / "run.zarr")
    for file in (path / "steps" / "chunk").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="steps/chunk"):
        load_recording(path)


def test_episodes_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no episode 2, only 0 to 1"):
        load_recording(record(tmp_path / "run.zarr")).episode(2)


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "array", (2,), np.dtype(np.float32))
    with pytest.raises(ValueError, match="shape"):
        writer.append(np.zeros(3))
