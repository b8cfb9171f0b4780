"""Students of a guided teacher: one evaluation stands in for both answers of every step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from lfm_policy import InputError, load_policy
from lfm_policy.config import load_config
from lfm_policy.distillation import distill, student_config
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.policy import read_header
from lfm_policy.training import train
from lfm_policy.training.run import Run

pytestmark = pytest.mark.slow

QUICK = ["training.total_steps=4", "distill.samples=2", "distill.teacher_solver=''"]


@pytest.fixture(scope="module")
def guided(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of two blocks of four evaluations each, two steps with guidance."""
    options = ["flow.drop_obs=0.2", "sampler.guidance=1.5", "sampler.nfe=8"]
    options += ["training.total_steps=80", "training.learning_rate=0.02"]
    folder = tmp_path_factory.mktemp("guided") / "teacher"
    train(load_config(str(small_config), options), folder, device="cpu", quiet=True)
    return folder


def test_options_of_a_student(guided: Path) -> None:
    teacher = read_header(guided)
    config = student_config(teacher, nfe=1, method="regression", overrides=QUICK)
    assert (config.flow.drop_obs, config.sampler.guidance, config.sampler.nfe) == (0.0, 1.0, 1)
    options = config.distill
    assert (options.teacher_guidance, options.teacher_steps) == (1.5, 2)
    other = [*QUICK, "distill.teacher_guidance=3"]
    config = student_config(teacher, nfe=1, method="regression", overrides=other)
    assert config.distill.teacher_guidance == 3.0
    for override in ("flow.drop_obs=0.1", "sampler.guidance=2"):
        with pytest.raises(InputError, match=r"flow.drop_obs is 0.1, expected 0|expected 1"):
            student_config(teacher, nfe=1, method="regression", overrides=[override])


def test_a_plain_teacher_has_no_guidance(small_run: Path) -> None:
    teacher = read_header(small_run)
    assert student_config(teacher, nfe=1, method="regression").distill.teacher_guidance == 1.0
    with pytest.raises(InputError, match=r"distill.teacher_guidance is 2, expected 1"):
        student_config(
            teacher, nfe=1, method="regression", overrides=["distill.teacher_guidance=2"]
        )


def test_students_learn_from_guided_samples(guided: Path, tmp_path: Path) -> None:
    teacher = load_policy(guided)
    assert (teacher.guidance, teacher.nfe_per_block) == (1.5, (4, 4))
    header = read_header(guided)
    config = student_config(header, nfe=1, method="regression", overrides=QUICK)
    run = Run(config, tmp_path / "student", device="cpu", quiet=True)
    plan = DistillPlan(run, header, tmp_path / "pairs")
    # It starts from the network of the teacher's block at the noise, without what guides it.
    inside = teacher.model.blocks[1].network
    weights = run.model.blocks[0].state_dict()
    assert weights.keys() == inside.state_dict().keys()  # type: ignore[operator]
    assert all(torch.equal(weights[k], v) for k, v in inside.state_dict().items())  # type: ignore[operator]
    pairs = plan.part(1).rows
    y, path, cond = pairs.batch(torch.arange(5), training=True)
    expected = teacher.pipeline.chain.sample(y, cond, solver=teacher.pipeline.solvers)
    assert_close(path[:, 0], expected.x.clamp(-1, 1), rtol=1e-4, atol=1e-5)
    plain = teacher.model.chain().sample(y, cond, solver=teacher.pipeline.solvers)
    assert (plain.x - expected.x).abs().max() > 1e-3


def test_samples_of_other_guidance_are_other_samples(guided: Path, tmp_path: Path) -> None:
    folders = {}
    for weight in (1.0, 1.5, 3.0):
        pairs = tmp_path / f"{weight}"
        checkpoint = distill(
            guided,
            tmp_path / f"student{weight}",
            nfe=2,
            overrides=[*QUICK, f"distill.teacher_guidance={weight}"],
            pairs_folder=pairs,
            device="cpu",
            quiet=True,
        )
        folders[weight] = {path.name for path in pairs.iterdir()}
        policy = load_policy(checkpoint)
        assert (policy.nfe, policy.guidance) == (2, 1.0)
        assert not any("none" in name for name in policy.model.state_dict())
    assert not folders[1.0] & folders[1.5] and not folders[1.5] & folders[3.0]


def test_a_stopped_distillation_goes_on(guided: Path, tmp_path: Path) -> None:
    options = {"nfe": 1, "overrides": QUICK, "device": "cpu", "quiet": True}
    first = distill(guided, tmp_path / "student", pairs_folder=tmp_path / "pairs", **options)  # type: ignore[arg-type]
    again = distill(
        guided,
        tmp_path / "student",
        pairs_folder=tmp_path / "pairs",
        resume=True,
        **options,  # type: ignore[arg-type]
    )
    assert first == again


@pytest.mark.parametrize("method", ["progressive", "consistency", "distribution"])
def test_every_method_takes_a_guided_teacher(guided: Path, tmp_path: Path, method: str) -> None:
    checkpoint = distill(
        guided,
        tmp_path / "student",
        nfe=2,
        method=method,
        overrides=[*QUICK, "distill.trajectory_points=2"],
        pairs_folder=tmp_path / "pairs",
        device="cpu",
        quiet=True,
    )
    assert load_policy(checkpoint).nfe == 2
