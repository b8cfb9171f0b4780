"""Students of imported policies: what they learn from, and how far they are from their teachers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lfm_policy import InputError, load_policy
from lfm_policy.cli.main import main
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.distillation.samples import Pairs
from lfm_policy.flow import SolverSpec
from lfm_policy.policy import Policy, read_header
from lfm_policy.sharing.card import model_card
from lfm_policy.sharing.front_matter import CardOptions
from lfm_policy.sharing.reports import Measured
from lfm_policy.text.students import DISTANCE
from lfm_policy.training.trainer import Part

from .conftest import Reference

pytestmark = pytest.mark.slow

QUICK = [
    "training.total_steps=4",
    "training.batch_size=32",
    "distill.samples=2",
    "distill.teacher_steps=2",
]
ENDS = np.array([10, 20, 32])
KEYPOINTS = "lerobot_061_keypoints_ddpm"
STATE, CORNERS = "observation.state", "observation.environment_state"


def seen(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> ReplayBuffer:
    """What a robot saw in three episodes; what was done then is far from anything that is done."""
    draw = np.random.default_rng(seed)
    arrays = {"action": np.full((ENDS[-1], 2), 5_000, np.float32)}
    for key, shape in shapes.items():
        values = draw.uniform(60, 450, (ENDS[-1], *shape))
        arrays[key] = np.asarray(values % 256 if len(shape) == 3 else values).astype(
            np.uint8 if len(shape) == 3 else np.float32
        )
    return ReplayBuffer(arrays, ENDS)


@pytest.fixture
def teacher(
    reference: Callable[[str], Reference], tmp_path: Path
) -> Callable[[str], tuple[Path, Policy]]:
    """Return a function that copies an imported policy."""

    def get(path: str = KEYPOINTS) -> tuple[Path, Policy]:
        policy = reference(path).policy
        copied = shutil.copytree(policy.info["checkpoint"], tmp_path / "teacher")
        return Path(copied), policy

    return get


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a recording for a policy."""

    def write(policy: Policy, name: str = "seen", seed: int = 0) -> Path:
        path = tmp_path / f"{name}.zarr"
        write_zarr(path, seen(policy.spec.obs_shapes, seed))
        return path

    return write


def student_of(folder: Path, *overrides: str, nfe: int = 1, **options: Any) -> Policy:
    made = distill(
        folder, nfe=nfe, overrides=[*QUICK, *overrides], device="cpu", quiet=True, **options
    )
    return load_policy(made)


Teacher = Callable[..., tuple[Path, Policy]]
Recording = Callable[..., Path]


@pytest.mark.parametrize(
    "path",
    [
        KEYPOINTS,
        "lerobot_061_image_gn_narrow",
        "diffusion_policy_lowdim/latest.ckpt",
        "robomimic_diffusion_policy/model.pth",
    ],
)
@pytest.mark.parametrize("nfe", [1, 2])
def test_a_recording_is_enough(path: str, nfe: int, teacher: Teacher, recording: Recording) -> None:
    folder, parent = teacher(path)
    student = student_of(folder, f"distill.recording={recording(parent)}", nfe=nfe)
    assert student.nfe == nfe and student.config.flow.n_blocks == nfe
    assert student.spec.obs_shapes == parent.spec.obs_shapes
    # What was done while the recording was made is nothing that a student does.
    for part, expected in parent.normalizer["action"].tensors().items():
        assert torch.equal(student.normalizer["action"].tensors()[part], expected)
    batch = student.fake_batch(2)
    assert student.predict_action_chunk(batch).shape == (2, student.n_action_steps, 2)


def test_time_is_cut_at_noise_levels(
    teacher: Teacher, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student of the noise side learns where the teacher's flow is half way."""
    learned: dict[int, Pairs] = {}
    original = DistillPlan.part

    def spy(plan: DistillPlan, n: int) -> Part:
        part = original(plan, n)
        assert isinstance(part.rows, Pairs)
        learned[n] = part.rows
        return part

    monkeypatch.setattr(DistillPlan, "part", spy)
    folder, parent = teacher()
    overrides = [f"distill.recording={recording(parent)}", "distill.teacher_steps=4"]
    student = student_of(folder, *overrides, nfe=2)
    # As much noise as data: alpha = sigma.
    (step,) = student.config.flow.step_sizes
    assert step == pytest.approx(0.5 * np.log(2))
    rows = learned[2]
    cond = rows.condition(torch.arange(len(rows)))
    block = parent.model.chain().block(1)
    with torch.no_grad():
        half, whole = (
            block.run(rows.y, cond, t_start=1.0, t_end=end, solver=SolverSpec("midpoint", steps)).x
            for end, steps in ((0.5, 2), (0.0, 4))
        )
    torch.testing.assert_close(rows.path[:, 0], half, rtol=1e-4, atol=1e-4)
    # The other one starts from what that one makes, and is to end where the teacher does.
    torch.testing.assert_close(learned[1].path[:, 0], whole, rtol=1e-4, atol=1e-4)


def test_how_far_it_is_from_its_teacher(
    teacher: Teacher, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, parent = teacher()
    path = recording(parent)
    arguments = ["distill", str(folder), "--nfe=1", f"distill.recording={path}", "--quiet"]
    assert main([*arguments, *QUICK, "--output", str(folder / "student")]) == 0
    told = capsys.readouterr().out
    # One of three episodes is held out; its windows, and the teacher's flow from the same noise.
    found = read_header(folder / "student").training[DISTANCE]
    assert f"at {found['observations']} held-out observations" in told
    assert len(found["rmse"]) == 2 and found["of_spread"] > 0
    scale = parent.normalizer["action"].scale
    normalised = (torch.tensor(found["rmse"]) * scale.abs()).square().mean().sqrt()
    assert float(normalised) == pytest.approx(found["rmse_normalised"], rel=1e-5)
    assert main(["inspect", str(folder / "student")]) == 0
    assert "that was trained with LeRobot" in capsys.readouterr().out
    card = model_card(read_header(folder / "student"), Measured(), CardOptions("me/student"))
    assert "no demonstrations" in card and "SHA-256 of the recording" in card


@pytest.mark.parametrize(
    "network",
    [
        "network={name: mlp, width: 16, n_layers: 2}",
        "network={name: unet1d, channels: [8, 16], n_groups: 4}",
    ],
)
def test_a_smaller_network_of_another_kind(
    network: str, teacher: Teacher, recording: Recording
) -> None:
    folder, parent = teacher()
    student = student_of(folder, f"distill.recording={recording(parent)}", network)
    assert student.config.network.name in network
    assert student.parameter_counts()["total"] < parent.parameter_counts()["total"]


def test_another_encoder_that_sees_less(
    teacher: Teacher, recording: Recording, tmp_path: Path
) -> None:
    folder, parent = teacher()
    own = {
        "name": "corners",
        "dataset": {"obs_keys": [CORNERS]},
        "encoder": {"name": "state", "hidden": [8], "output_dim": 6},
        "network": {"name": "mlp", "width": 16},
        "training": {"encoder_steps": 4, "encoder_batch_size": 16},
    }
    (tmp_path / "corners.yaml").write_text(yaml.safe_dump(own))
    student = student_of(
        folder, f"distill.recording={recording(parent)}", own=tmp_path / "corners.yaml"
    )
    assert list(student.spec.obs_shapes) == [CORNERS]
    assert student.config.encoder.output_dim == 6
    assert read_header(folder / "corners-nfe1-regression").training["encoder_steps"] == 4


@pytest.mark.parametrize("inputs", ["teacher", "student"])
def test_several_recordings_and_other_inputs(
    inputs: str, teacher: Teacher, recording: Recording
) -> None:
    folder, parent = teacher()
    first, second = (recording(parent, name, seed) for seed, name in enumerate("ab"))
    overrides = [f"distill.recording=[{first},{second}]", f"distill.inputs={inputs}"]
    student = student_of(folder, *overrides, nfe=2)
    assert student.config.distill.recording == [str(second)]
    header = read_header(folder / "student-nfe2-regression")
    assert header.config.dataset.path == str(first)  # type: ignore[attr-defined]
    # The same command goes on from what there is.
    again = student_of(folder, *overrides, nfe=2, resume=True)
    assert again.info["sha256"] == student.info["sha256"]


def test_other_recordings_have_other_samples(teacher: Teacher, recording: Recording) -> None:
    folder, parent = teacher()
    for seed, name in enumerate("ab"):
        path = recording(parent, name, seed)
        output = folder.parent / name
        distill(
            folder,
            output,
            nfe=1,
            overrides=[*QUICK, f"distill.recording={path}"],
            device="cpu",
            quiet=True,
        )
    assert len(list((folder / "pairs").iterdir())) == 2


def test_demonstrations_of_the_framework(teacher: Teacher, tmp_path: Path) -> None:
    folder, _ = teacher()
    shapes = {"state": (2,), "environment_state": (16,)}
    write_lerobot(tmp_path / "demos", seen(shapes), fps=10)
    # Of what format they are nobody has to say.
    student = student_of(folder, f"dataset.path={tmp_path / 'demos'}")
    assert set(student.spec.obs_shapes) == {STATE, CORNERS}
    assert student.config.dataset.name == "lerobot"


def test_nothing_to_learn_from(teacher: Teacher, tmp_path: Path) -> None:
    folder, parent = teacher()
    with pytest.raises(InputError, match=r"distill\.recording=seen\.zarr; or demonstrations"):
        student_of(folder)
    shapes = {**parent.spec.obs_shapes, CORNERS: (3,)}
    write_zarr(tmp_path / "other.zarr", seen(shapes))
    with pytest.raises(InputError, match=r"environment_state has shape \(3,\) per step, expected"):
        student_of(folder, f"distill.recording={tmp_path / 'other.zarr'}")
    assert not (folder / "student-nfe1-regression").exists()
