"""What a distillation says beforehand, and that nothing changes by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfm_policy.distillation import distill, student_config
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.policy.checkpoint import read_header
from lfm_policy.policy.tensors import read_tensors
from lfm_policy.training.run import Run
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_policy.training.train import train_parts

OVERRIDES = [
    "distill.samples=3",
    "distill.teacher_solver=heun",
    "distill.teacher_steps=4",
    "training.total_steps=6",
    "training.obs_noise=0.1",
]


@pytest.mark.parametrize("method", ["regression", "consistency"])
def test_samples_and_steps_are_counted_and_nothing_changes(
    teacher: Path, tmp_path: Path, method: str
) -> None:
    overrides = [*OVERRIDES, "distill.trajectory_points=4", "distill.inputs=teacher"]
    header = read_header(teacher)
    config = student_config(header, nfe=1, method=method, overrides=overrides)
    run = Run(config, tmp_path / "without", device="cpu", quiet=True)
    plan = DistillPlan(run, header, tmp_path / "pairs")
    estimate = plan.estimate()
    counts = {share.label: share.count for share in estimate.shares}
    rows = 3 * len(run.train_set) + len(run.validation_set or ())
    # Two blocks of four steps of two evaluations each.
    batches = rows / config.distill.batch_size
    assert counts["teacher's samples"] == pytest.approx(2 * 4 * 2 * batches)
    assert counts["student"] == 6
    points = 4 if method == "consistency" else 1
    assert estimate.disk_bytes["teacher's samples"] == 3 * len(run.train_set) * points * 6 * 2 * 4
    without = train_parts(run, plan)
    with_estimate = distill(
        teacher, tmp_path / "with", nfe=1, method=method, overrides=overrides, quiet=True
    )
    expected = read_tensors(without / "model.safetensors")
    found = read_tensors(with_estimate / "model.safetensors")
    assert all(bool((found[key] == expected[key]).all()) for key in expected)
    kinds = [record["kind"] for record in read_metrics(tmp_path / "with" / METRICS_FILE)]
    assert kinds[0] == "estimate"
