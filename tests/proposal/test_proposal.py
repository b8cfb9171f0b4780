"""Proposals for tiny datasets: they load, train and give a checkpoint without an edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.config import ExperimentConfig, load_config
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.convert import ConvertOptions, convert
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import read_header
from lfm_policy.proposal import Proposal, ProposalOptions, propose
from lfm_policy.proposal.budget import Plan, Steps, fitted
from lfm_policy.training import train
from lfm_policy.training.estimate import Estimate, Share

LENGTHS = (30, 24, 28, 26, 25, 27)
SMALL = ["network.width=16", "network.n_layers=1", "training.batch_size=8"]
"""Overrides for tests alone: what is proposed is for real trainings."""

FEW_STEPS = ["training.total_steps=6", "training.encoder_views=1"]

WriteDataset = Callable[..., Path]


@pytest.fixture
def write_dataset(tmp_path: Path) -> WriteDataset:
    """Return a function that writes a zarr store; without an action there is one of 3 numbers."""

    def write(
        arrays: dict[str, np.ndarray],
        lengths: tuple[int, ...] = LENGTHS,
        *,
        fps: float | None = None,
        name: str = "arm.zarr",
    ) -> Path:
        path = tmp_path / name
        action = {} if "action" in arrays else {"action": joints(sum(lengths), 3, seed=0)}
        write_zarr(path, ReplayBuffer({**action, **arrays}, np.cumsum(lengths)), fps=fps)
        return path

    return write


def joints(n_steps: int = sum(LENGTHS), size: int = 4, seed: int = 1) -> np.ndarray:
    """Return values that wander, (n_steps, size) float32."""
    generator = np.random.default_rng(seed)
    return np.cumsum(generator.normal(size=(n_steps, size)), axis=0).astype(np.float32)


def frames(height: int, width: int, n_steps: int = sum(LENGTHS)) -> np.ndarray:
    """Return noise, (n_steps, height, width, 3) uint8."""
    generator = np.random.default_rng(2)
    return generator.integers(0, 256, (n_steps, height, width, 3), dtype=np.uint8)


def proposed(path: Path, **options: Any) -> Proposal:
    return propose(path, ProposalOptions(device="cpu", **options))


def trains(proposal: Proposal, tmp_path: Path) -> ExperimentConfig:
    """Train what is proposed, smaller and shorter, and return the options of the checkpoint."""
    file = tmp_path / "proposed.yaml"
    file.write_text(proposal.text)
    steps = ["training.encoder_steps=2"] if proposal.config.encoder.name == "cameras" else []
    config = load_config(str(file), [*SMALL, *FEW_STEPS, *steps])
    checkpoint = train(config, tmp_path / "run", device="cpu", quiet=True)
    header = read_header(checkpoint)
    assert header.complete
    return header.config


@pytest.mark.parametrize("format_name", ["zarr", "robomimic", "lerobot"])
def test_every_format_trains_from_cameras_and_numbers(
    write_dataset: WriteDataset, tmp_path: Path, format_name: str
) -> None:
    path = write_dataset(
        {"joints": joints(), "front": frames(24, 32), "wrist": frames(36, 24)}, fps=30
    )
    names = {"zarr": path, "robomimic": tmp_path / "arm.hdf5", "lerobot": tmp_path / "lerobot"}
    target = names[format_name]
    if target != path:
        convert(path, target, ConvertOptions(fps=30), quiet=True)
    proposal = proposed(target)
    config = trains(proposal, tmp_path)
    assert set(read_header(tmp_path / "run").spec.obs_shapes) == {"joints", "front", "wrist"}
    assert config.encoder.name == "cameras"
    assert config.training.encoder == "joint"
    # 30 steps per second ask for 32, the episodes allow 24.
    assert (config.policy.horizon, config.policy.n_action_steps) == (24, 12)
    assert config.dataset.validation_ratio == 0.1
    assert proposal.plan.training.seconds > 0 and proposal.plan.student.seconds > 0
    json.dumps(proposal.to_dict(), allow_nan=False)


def test_odd_arrays_are_left_out_and_odd_names_are_quoted(
    write_dataset: WriteDataset, tmp_path: Path
) -> None:
    n = sum(LENGTHS)
    joint = joints()
    halves = joint.copy()
    halves[:, 0] = 3.0
    arrays = {
        "joints: left #1": joint,
        "yes": joints(seed=5),
        "half": halves,
        "same": joint.copy(),
        "reward": joints(size=1, seed=7),
        "next.state": joints(seed=8),
        "action_abs": joints(seed=9),
        "still": np.full((n, 2), 0.5, np.float32),
        "clock": np.arange(n, dtype=np.float32)[:, None] / 30,
        "scan": np.random.default_rng(3).normal(size=(n, 600)).astype(np.float32),
    }
    proposal = proposed(write_dataset(arrays))
    left_out = proposal.choice.left_out
    assert left_out.keys() == {
        *("same", "reward", "next.state", "action_abs", "still", "clock", "scan")
    }
    assert left_out["same"] == "it is the same as joints: left #1"
    assert "reward" in left_out["reward"] and "512" in left_out["scan"]
    config = trains(proposal, tmp_path)
    assert config.dataset.obs_keys == ["half", "joints: left #1", "yes"]
    assert "0 never changes" in proposal.text


def test_outliers_are_normalised_by_quantiles(write_dataset: WriteDataset, tmp_path: Path) -> None:
    far = joints()
    far[17, 2] = 1e4
    action = joints(size=3, seed=0)
    action[5, 1] = -1e4
    proposal = proposed(write_dataset({"force torque": far, "joints": joints(), "action": action}))
    config = trains(proposal, tmp_path)
    assert config.normalization.action == "quantiles"
    assert config.normalization.keys == {"force torque": "quantiles"}
    assert "WARNING: " in proposal.text and any("far outside" in w for w in proposal.warnings)


def test_images_alone_large_ones_made_smaller(write_dataset: WriteDataset, tmp_path: Path) -> None:
    lengths = (12, 9)
    path = write_dataset({"image": frames(150, 200, sum(lengths))}, lengths)
    proposal = proposed(path)
    assert "resize" in proposal.text
    config = trains(proposal, tmp_path)
    assert config.encoder.image["resize"] == [96, 128]
    assert config.policy.horizon == 8  # of the shorter one's 9 steps
    disk = proposal.plan.training.disk_bytes
    assert disk["camera frames"] == 21 * 96 * 128 * 3


@pytest.mark.parametrize("lengths", [(25,), (20, 22), (3, 2, 30), (2,)])
def test_one_episode_two_or_very_short_ones(
    write_dataset: WriteDataset, tmp_path: Path, lengths: tuple[int, ...]
) -> None:
    proposal = proposed(write_dataset({"joints": joints(sum(lengths))}, lengths))
    config = trains(proposal, tmp_path)
    assert config.dataset.validation_ratio == 0


def test_a_wide_state(write_dataset: WriteDataset, tmp_path: Path) -> None:
    proposal = proposed(write_dataset({"everything": joints(size=300)}))
    assert trains(proposal, tmp_path).dataset.obs_keys == ["everything"]


def test_another_action_is_named(write_dataset: WriteDataset, tmp_path: Path) -> None:
    path = write_dataset({"joints": joints(), "target": joints(seed=4)})
    proposal = propose(path, ProposalOptions(action_key="target", device="cpu"))
    config = trains(proposal, tmp_path)
    assert config.dataset.action_key == "target"
    assert config.dataset.obs_keys == ["joints"]


@pytest.mark.parametrize("format_name", ["zarr", "robomimic", "lerobot"])
def test_several_tasks_are_told_apart(tmp_path: Path, format_name: str) -> None:
    store = tmp_path / "arm.zarr"
    arrays = {"action": joints(size=3, seed=0), "joints": joints(), "task": joints(size=1, seed=9)}
    shown = ["pick up the cube", "tray"] * 3
    write_zarr(store, ReplayBuffer(arrays, np.cumsum(LENGTHS)), fps=10, tasks=shown)
    names = {"zarr": store, "robomimic": tmp_path / "arm.hdf5", "lerobot": tmp_path / "lerobot"}
    path = names[format_name]
    if path != store:
        convert(store, path, quiet=True)
    proposal = proposed(path)
    assert '\n  tasks: ["*"]  # all: the policy is told which' in proposal.text
    assert proposal.tasks == "2 tasks: pick up the cube (3), tray (3)"
    assert "is what the policy is told by dataset.tasks" in "".join(
        proposal.choice.left_out.values()
    )
    trains(proposal, tmp_path)
    spec = read_header(tmp_path / "run").spec
    assert spec.tasks == ("pick up the cube", "tray")
    assert spec.obs_shapes == {"joints": (4,), "task": (2,)}


def test_one_task_or_one_that_is_not_known_for_all_is_not_told(tmp_path: Path) -> None:
    buffer = ReplayBuffer({"action": joints(size=3), "joints": joints()}, np.cumsum(LENGTHS))
    write_zarr(tmp_path / "one.zarr", buffer, tasks=["push"] * 6)
    proposal = proposed(tmp_path / "one.zarr")
    assert not proposal.config.dataset.tasks and not any("task" in n for n in proposal.notes)
    write_zarr(tmp_path / "some.zarr", buffer, tasks=["push", "", "fold"] * 2)
    proposal = proposed(tmp_path / "some.zarr")
    assert not proposal.config.dataset.tasks
    (note,) = (note for note in proposal.notes if "task" in note)
    assert note.startswith("2 tasks: push (2), fold (2); 2 episodes of none: ")


def test_a_rate_may_be_said(write_dataset: WriteDataset) -> None:
    path = write_dataset({"joints": joints()}, fps=50)
    assert proposed(path, fps=5).config.policy.horizon == 8


def test_errors_say_what_is_there(write_dataset: WriteDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        proposed(tmp_path / "nothing.zarr")
    path = write_dataset({"reward": joints(size=1)})
    with pytest.raises(InputError, match="nothing is left that a policy could observe"):
        proposed(path)
    with pytest.raises(InputError, match="no array 'actoin' to imitate: did you mean 'action'"):
        proposed(path, action_key="actoin")


# -- time -----------------------------------------------------------------------------------------


def a_plan(encoder: float, features: float, blocks: float, teacher: float, student: float) -> Plan:
    """Return a plan of these minutes."""
    training = Estimate(
        (
            Share("encoder", "step", 30_000, encoder * 60 / 30_000),
            Share("features", "frame", 1000, features * 60 / 1000),
            Share("blocks", "step", 24_000, blocks * 60 / 24_000),
        ),
        "cpu",
    )
    shares = (
        Share("teacher's samples", "evaluation", 100, teacher * 60 / 100),
        Share("student", "step", 72_000, student * 60 / 72_000),
    )
    return Plan(training, Estimate(shares, "cpu"), Steps())


def test_what_fits_stays() -> None:
    plan = fitted(a_plan(10, 1, 10, 1, 10), 60)
    assert plan.steps == Steps() and plan.said == ("all fits into 60 minutes as it is",)


def test_steps_are_scaled_to_the_time() -> None:
    plan = fitted(a_plan(100, 0, 50, 0, 50), 100)
    # 85 of 200 minutes.
    assert plan.steps == Steps(12_000, 10_000, 30_000)
    assert "42% of what is recommended, which takes 3 h 20 min" in plan.said[0]


def test_views_and_samples_give_way_first() -> None:
    plan = fitted(a_plan(100, 80, 50, 80, 50), 100)
    assert plan.steps.encoder_views == plan.steps.samples == 2  # 34 of 160 minutes
    left = 85 - 160 / 4
    assert plan.steps.encoder_steps == int(30_000 * left / 200 / 100) * 100


def test_too_little_time_is_said() -> None:
    plan = fitted(a_plan(3000, 800, 500, 800, 500), 1)
    assert plan.steps == Steps(300, 300, 300, 1, 1)
    assert "the least that is proposed" in plan.said[0]
    assert "will take longer all the same" in plan.said[1]


def test_minutes_change_the_file(write_dataset: WriteDataset) -> None:
    path = write_dataset({"joints": joints()})
    proposal = proposed(path, minutes=0.05)
    assert proposal.config.training.total_steps < 24_000
    assert proposal.config.distill.training["total_steps"] < 72_000
    assert "of what is recommended" in proposal.text


def test_little_time_makes_frames_smaller(write_dataset: WriteDataset, tmp_path: Path) -> None:
    n, lengths = 21, (12, 9)
    same = {"front": frames(60, 120, n), "wrist": frames(60, 120, n)}
    path = write_dataset(same, lengths)
    config = trains(proposed(path, minutes=0.02), tmp_path)
    assert config.encoder.image["resize"] == [42, 84]
    other = {"front": frames(60, 120, n), "wrist": frames(100, 50, n)}
    proposal = proposed(write_dataset(other, lengths, name="other.zarr"), minutes=0.02)
    cameras = proposal.config.encoder.cameras
    assert cameras == {"front": {"resize": [42, 84]}, "wrist": {"resize": [84, 42]}}


# -- nothing to distil ----------------------------------------------------------------------------


def test_blocks_that_are_asked_once(write_dataset: WriteDataset, tmp_path: Path) -> None:
    path = write_dataset({"joints": joints()}, fps=10)
    proposal = proposed(path, direct=True)
    config, known = proposal.config, load_config("own/direct")
    assert (config.flow, config.sampler, config.network) == (
        known.flow,
        known.sampler,
        known.network,
    )
    assert config.training.total_steps == known.training.total_steps
    assert "distill:" not in proposal.text and proposal.plan.student is None
    assert config.name == "arm_direct" and proposed(path).config.name == "arm"
    assert proposal.plan.seconds == proposal.plan.training.seconds > 0
    json.dumps(proposal.to_dict(), allow_nan=False)
    file = tmp_path / "direct.yaml"
    file.write_text(proposal.text)
    overrides = ["network.channels=[8,8]", "training.batch_size=8", "training.total_steps=6"]
    checkpoint = train(
        load_config(str(file), overrides), tmp_path / "run", device="cpu", quiet=True
    )
    assert read_header(checkpoint).config.sampler.renoise == known.sampler.renoise
    short = proposed(path, direct=True, minutes=0.05)
    assert short.config.training.total_steps < known.training.total_steps
    assert short.config.sampler == known.sampler


def test_cameras_have_to_be_learned_first(write_dataset: WriteDataset) -> None:
    path = write_dataset({"joints": joints(), "front": frames(24, 32)})
    with pytest.raises(InputError, match=r"--direct: front are cameras, .* leave --direct out"):
        proposed(path, direct=True)
    assert proposed(path, direct=True, leave_out=["front"]).config.network.name == "unet1d"
