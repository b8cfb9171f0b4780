"""Distilling about what a robot saw, beside the demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy import InputError, load_policy
from lfm_policy.cli.main import main
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.distillation.group import group_edges, teacher_groups
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.distillation.samples import Pairs, teacher_noise
from lfm_policy.distillation.states import Reach
from lfm_policy.flow import SolverSpec
from lfm_policy.policy import read_header
from lfm_policy.training.trainer import Part

pytestmark = pytest.mark.slow

QUICK = ["training.total_steps=6", "distill.samples=2", "distill.teacher_steps=4"]
LENGTHS = (8, 11)


def write_recording(
    path: Path,
    *,
    seed: int = 7,
    pose: int = 4,
    steps: int | None = None,
    lengths: tuple[int, ...] = LENGTHS,
) -> Path:
    generator = np.random.default_rng(seed)
    ends = np.cumsum(lengths if steps is None else [steps])
    arrays = {
        "action": np.zeros((ends[-1], 2), np.float32),
        "agent_pos": generator.uniform(0, 500, (ends[-1], 2)).astype(np.float32),
        "pose": generator.uniform(0, 500, (ends[-1], pose)).astype(np.float32),
    }
    write_zarr(path, ReplayBuffer(arrays, ends))
    return path


def test_the_teacher_is_asked_about_recorded_observations(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    original = DistillPlan.part

    def spy(plan: DistillPlan, n: int) -> Part:
        part = original(plan, n)
        pairs = part.rows
        assert isinstance(pairs, Pairs)
        cond = pairs.condition(torch.arange(len(pairs)))
        seen.append((pairs.y, pairs.path[:, 0], cond))  # type: ignore[arg-type]
        return part

    plain = distill(teacher, tmp_path / "plain", nfe=1, overrides=QUICK, device="cpu", quiet=True)
    monkeypatch.setattr(DistillPlan, "part", spy)
    recording = write_recording(tmp_path / "run.zarr")
    overrides = [*QUICK, f"distill.recording={recording}"]
    student = distill(
        teacher, tmp_path / "more", nfe=1, overrides=overrides, device="cpu", quiet=True
    )
    ((y, x, cond),) = seen
    parent = load_policy(teacher)
    # Windows as in training, two frames of history each, normalised as the demonstrations.
    n_recorded = sum(length - 6 + 3 - 1 + 2 for length in LENGTHS)
    n_windows = len(y) // 2
    frames = torch.from_numpy(np.asarray(_array(recording, "agent_pos")[:2], np.float32))
    first = parent.normalizer.normalize("agent_pos", frames)
    row = cond[n_windows - n_recorded]
    torch.testing.assert_close(row[:2], first[0])  # the first frame is its own history
    torch.testing.assert_close(cond[n_windows - n_recorded + 1][:2], first[0])
    # Every window is asked about twice, and answered by the teacher's own way from the noise.
    torch.testing.assert_close(cond[:n_windows], cond[n_windows:])
    torch.testing.assert_close(y, teacher_noise(0, len(y), parent.model.chunk_shape))
    (group,) = teacher_groups(
        parent.model.chain(), group_edges(parent.model.n_blocks, 1), SolverSpec("midpoint", 4)
    )
    reach = Reach.of(read_header(teacher))
    assert reach is not None
    torch.testing.assert_close(x, reach.bounded(group.sample(y, cond), Fraction(0)))
    # The student remembers the recording, and its samples are not those without.
    options = read_header(student).config.distill
    assert options.recording == [str(recording)] and options.recording_fingerprint
    assert not read_header(plain).config.distill.recording_fingerprint
    assert len(list((teacher / "pairs").iterdir())) == 2


def _array(path: Path, key: str) -> np.ndarray:
    import zarr

    return np.asarray(zarr.open(str(path), mode="r")[f"data/{key}"])


def test_recorded_episodes_too_short_for_a_window_are_counted(
    teacher: Path, tmp_path: Path
) -> None:
    recording = write_recording(tmp_path / "run.zarr", lengths=(8, 2, 11))
    overrides = [*QUICK, f"distill.recording={recording}"]
    with pytest.warns(
        UserWarning, match="run.zarr: 1 of 3 episodes are left out: .* than the 3 st"
    ):
        distill(teacher, tmp_path / "student", nfe=1, overrides=overrides, device="cpu", quiet=True)


def test_a_run_goes_on_with_its_own_recording_only(
    teacher: Path, tmp_path: Path, interrupt_step: Callable[..., list[int]]
) -> None:
    recording = write_recording(tmp_path / "run.zarr")
    arguments = {"nfe": 1, "device": "cpu", "quiet": True, "resume": True}
    overrides = [*QUICK, "training.checkpoint_every=1"]
    interrupt_step(4)
    with pytest.raises(KeyboardInterrupt):
        distill(
            teacher,
            tmp_path / "student",
            overrides=[*overrides, f"distill.recording={recording}"],
            **arguments,
        )
    other = write_recording(tmp_path / "other.zarr", seed=8)
    with pytest.raises(InputError, match=r"recording_fingerprint was '.*', is now"):
        distill(
            teacher,
            tmp_path / "student",
            overrides=[*overrides, f"distill.recording={other}"],
            **arguments,
        )
    moved = recording.rename(tmp_path / "moved.zarr")
    done = distill(
        teacher,
        tmp_path / "student",
        overrides=[*overrides, f"distill.recording={moved}"],
        **arguments,
    )
    assert read_header(done).complete


def test_other_observations_than_the_teachers_are_refused(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path) -> str:
        output = tmp_path / "refused"
        command = ["distill", str(teacher), "--nfe", "1", "--device", "cpu", *QUICK]
        assert main([*command, f"distill.recording={path}", "--output", str(output)]) == 2
        assert not output.exists()
        return capsys.readouterr().err

    message = refused(write_recording(tmp_path / "wide.zarr", pose=5))
    assert "wide.zarr: pose has shape (5,) per step, expected (4,)" in message
    message = refused(write_recording(tmp_path / "short.zarr", steps=1))
    assert "short.zarr" in message and "horizon" in message
    assert "no such" in refused(tmp_path / "absent.zarr")
    without = tmp_path / "without.zarr"
    arrays = {key: np.ones((9, 2), np.float32) for key in ("action", "agent_pos")}
    write_zarr(without, ReplayBuffer(arrays, np.array([9])))
    assert "there is no array data/pose" in refused(without)
