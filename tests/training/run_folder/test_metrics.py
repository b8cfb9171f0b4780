from __future__ import annotations

from pathlib import Path

from lfm_policy.training.run_folder.metrics import METRICS_FILE, MetricsLog, read_metrics


def _write(folder: Path, steps: range, resume_step: int | None = None) -> None:
    log = MetricsLog(folder, resume_step=resume_step)
    for step in steps:
        log.write("train", block=1, step=step, loss=1.0 / step)
    log.close()


def test_records_come_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "new" / "run")
    log.write("train", block=1, step=5, loss=0.5)
    log.write("event", block=2, step=7, message="checkpoint x")
    log.close()
    first, second = read_metrics(tmp_path / "new" / "run" / METRICS_FILE)
    assert first.pop("time") <= second.pop("time")
    assert first == {"kind": "train", "block": 1, "step": 5, "loss": 0.5}
    assert second == {"kind": "event", "block": 2, "step": 7, "message": "checkpoint x"}


def test_a_record_is_in_the_file_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write("train", block=1, step=1, loss=0.5)
    assert len(read_metrics(tmp_path / METRICS_FILE)) == 1
    log.close()


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 10))
    _write(tmp_path, range(5, 8), resume_step=4)
    assert [record["step"] for record in read_metrics(tmp_path / METRICS_FILE)] == [*range(1, 8)]


def test_resuming_drops_what_came_after_the_checkpoint_at_the_same_step(tmp_path: Path) -> None:
    # A push-forward has no steps of its own.
    log = MetricsLog(tmp_path)
    for kind, message in (
        ("train", "x"),
        ("event", "checkpoint a"),
        ("event", "checkpoint ab"),
        ("push_forward", "y"),
    ):
        log.write(kind, block=1, step=5, message=message)
    log.close()
    for checkpoint, left in (("of which nothing is logged", 4), ("ab", 3), ("a", 2)):
        MetricsLog(tmp_path, resume_step=5, checkpoint=checkpoint).close()
        assert len(read_metrics(tmp_path / METRICS_FILE)) == left


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 4))
    path = tmp_path / METRICS_FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert [record["step"] for record in read_metrics(path)] == [1, 2]
    _write(tmp_path, range(3, 5), resume_step=2)
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4]


def test_what_is_no_record_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    path.write_bytes(b'[1, 2]\n\xff\xfe\n"text"\n{"kind": "train", "step": 1}\n\n')
    assert read_metrics(path) == [{"kind": "train", "step": 1}]


def test_tensorboard_gets_the_numbers_and_only_these(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path)
    log.write("train", block=1, step=3, loss=0.25, message="text", flag=True)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    (scalar,) = events.Scalars("train/loss")
    assert (scalar.step, scalar.value) == (3, 0.25)
