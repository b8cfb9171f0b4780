"""Ways in which the blocks of a policy that sees images share an encoder."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.encoders.compact import CompactEncoder
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy, read_header
from lfm_policy.training import BlockPlan, Run, train, train_parts
from lfm_policy.training.rows.features import FEATURES

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
Weights = Callable[[Path], dict[str, Tensor]]
AssertSame = Callable[[Path, Path], None]
StoppedAt = Callable[..., AbstractContextManager[None]]

LENGTHS = (11, 9, 12)
MODES: dict[str, dict[str, Any]] = {
    "block1": {},
    "joint": {"training.encoder_steps": 6},
}


@pytest.fixture(scope="module")
def camera_demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store whose actions follow from a bright spot in the images."""
    rng = np.random.default_rng(0)
    steps = sum(LENGTHS)
    spot = rng.integers(2, 18, (steps, 2))
    images = np.zeros((steps, 20, 20, 3), np.uint8)
    for image, (row, column) in zip(images, spot, strict=True):
        image[row - 1 : row + 2, column - 1 : column + 2] = 255
    arrays = {
        "action": (spot - 10).astype(np.float32),
        "img": images,
        "spot": spot.astype(np.float32),
        "position": rng.normal(size=(steps, 3)).astype(np.float32),
    }
    path = tmp_path_factory.mktemp("cameras") / "cameras.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(LENGTHS)))
    return path


@pytest.fixture(scope="module")
def camera_config(make_config: MakeConfig, camera_demonstrations: Path) -> MakeConfig:
    def make(mode: str = "joint", **changes: Any) -> ExperimentConfig:
        return make_config(
            {
                "dataset.path": str(camera_demonstrations),
                "dataset.obs_keys": ["img", "position"],
                "dataset.rename": {"img": "image"},
                "dataset.validation_ratio": 0.3,
                "encoder.name": "cameras",
                "encoder.image": {
                    "name": "compact", "width": 4, "keypoints": 3, "crop": [16, 16],
                },
                "training.encoder": mode,
                "training.encoder_views": 3,
                "training.encoder_batch_size": 4,
                "training.total_steps": 12,
                "training.checkpoint_every": 3,
                "training.keep_checkpoints": 1000,
                **MODES[mode],
                **{key.replace("__", "."): value for key, value in changes.items()},
            }
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def runs(
    camera_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a function that trains a mode once, without interruption."""
    root = tmp_path_factory.mktemp("runs")

    def run(mode: str) -> Path:
        if not (root / mode).exists():
            train(camera_config(mode), root / mode, device="cpu", quiet=True)
        return root / mode

    return run


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name: value for name, value in weights.items() if name.startswith(prefix)}
    assert found
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# -- several noises for each look ---------------------------------------------------------------


@pytest.mark.parametrize("mode", ["block1", "joint"])
def test_several_noises_share_one_look_at_the_images(
    camera_config: MakeConfig, tmp_path: Path, mode: str
) -> None:
    changes = {"flow__n_blocks": 1, "flow__step_sizes": []} if mode == "block1" else {}
    config = camera_config(mode, training__encoder_draws=3, training__obs_noise=0.0, **changes)
    run = Run(config, tmp_path / "run", device="cpu", quiet=True)
    plan = BlockPlan(run)
    part = plan.part(plan.numbers()[0])
    batch = part.rows.batch(torch.arange(4), training=True)
    looks: list[int] = []
    handle = run.model.encoder.register_forward_hook(lambda *found: looks.append(len(found[2])))
    part.loss.train()
    x_0, condition, _, _ = batch

    def loss_of(x: Tensor, cond: Tensor) -> Tensor:
        torch.manual_seed(1)
        found: Tensor = part.loss(x, cond, None, None)
        return found

    cond = run.model.encoder(condition)
    looks.clear()
    found = loss_of(x_0, cond.detach())
    assert looks == []
    # The same noises and times, drawn for chunks that each have a row of their own.
    alone = plan.on(run)
    run.options = replace(run.options, encoder_draws=1)
    single = alone.part(plan.numbers()[0]).loss.train()
    torch.manual_seed(1)
    rows = x_0.repeat_interleave(3, dim=0), cond.detach().repeat_interleave(3, dim=0)
    torch.testing.assert_close(found, single(*rows, None, None))
    part.loss(*batch).backward()
    assert looks == [len(x_0)]
    part.loss.eval()
    assert torch.equal(loss_of(x_0, cond), _evaluated(single, x_0, cond))
    handle.remove()


def _evaluated(loss: torch.nn.Module, x: Tensor, cond: Tensor) -> Tensor:
    loss.eval()
    torch.manual_seed(1)
    found: Tensor = loss(x, cond, None, None)
    return found


# -- what learns when ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "n_blocks", "warns"), [("block1", 2, True), ("block1", 1, False), ("joint", 2, False)]
)
def test_a_first_block_that_teaches_little_is_warned_of(
    camera_config: MakeConfig, tmp_path: Path, mode: str, n_blocks: int, warns: bool
) -> None:
    config = camera_config(mode, **{"flow.n_blocks": n_blocks, "training.total_steps": 2})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(config, tmp_path / "run", device="cpu", quiet=True)
    found = [str(w.message) for w in caught if "teaches the encoder little" in str(w.message)]
    assert bool(found) == warns


@pytest.mark.parametrize(("mode", "stage"), [("block1", "block1"), ("joint", "block0")])
def test_the_encoder_is_frozen_after_its_stage(
    runs: Callable[[str], Path], weights: Weights, mode: str, stage: str
) -> None:
    folder = runs(mode)
    checkpoints = sorted((folder / "checkpoints").iterdir())
    names = [path.name for path in checkpoints]
    in_stage = [path for path in checkpoints if path.name.startswith(stage)]
    after = [path for path in checkpoints if path.name[:6] not in ("block0", stage)]
    assert len(after) >= 2, names
    first, final = weights(after[0]), weights(folder)
    assert same(part(first, "encoder."), part(final, "encoder."))
    assert not same(part(weights(in_stage[0]), "encoder."), part(final, "encoder."))


def test_joint_alone_is_a_whole_training(
    camera_config: MakeConfig, weights: Weights, tmp_path: Path
) -> None:
    config = camera_config("joint", training__total_steps=0)
    train(config, tmp_path / "run", device="cpu", quiet=True)
    header = read_header(tmp_path / "run")
    assert header.complete
    assert header.training["encoder_steps"] == header.training["steps"] == 6
    assert not (tmp_path / "run" / FEATURES).exists()
    policy = load_policy(tmp_path / "run")
    assert policy.select_action(policy.fake_obs()).shape == (2,)


@pytest.mark.parametrize("mode", MODES)
def test_images_are_looked_at_only_while_an_encoder_learns(
    camera_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    frames = {"training": 0, "frozen": 0}
    features = CompactEncoder.features

    def counted(self: CompactEncoder, images: Tensor) -> Tensor:
        frames["training" if torch.is_grad_enabled() else "frozen"] += len(images)
        return features(self, images)

    monkeypatch.setattr(CompactEncoder, "features", counted)
    config = camera_config(mode, training__validation_every=1000, dataset__validation_ratio=0.0)
    run = Run(config, tmp_path / "run", device="cpu", quiet=True)
    train_parts(run, BlockPlan(run))  # without an estimate, which looks at some, too
    assert frames["training"] == 6 * 4 * 2  # steps, batch and history
    assert frames["frozen"] == 3 * sum(LENGTHS)  # three views of every frame once


# -- features -----------------------------------------------------------------------------------


def test_features_are_kept_under_the_weights_and_used_again(
    camera_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train(camera_config(), tmp_path / "run", device="cpu", quiet=True)
    (file,) = (tmp_path / "run" / FEATURES).iterdir()
    made = file.stat().st_mtime_ns
    seen = []
    features = CompactEncoder.features
    monkeypatch.setattr(
        CompactEncoder,
        "features",
        lambda self, images: seen.append(len(images)) or features(self, images),
    )
    student = ["distill.samples=2", "distill.teacher_steps=1", "training.total_steps=4"]
    distill(tmp_path / "run", nfe=2, overrides=student, device="cpu", quiet=True)
    assert seen == []
    assert [path.name for path in (tmp_path / "run" / FEATURES).iterdir()] == [file.name]
    assert file.stat().st_mtime_ns == made
    # Other weights, another file.
    train(camera_config(seed=4), tmp_path / "other", device="cpu", quiet=True)
    assert [path.name for path in (tmp_path / "other" / FEATURES).iterdir()] != [file.name]


def test_a_student_samples_like_any_policy(camera_config: MakeConfig, tmp_path: Path) -> None:
    train(camera_config(), tmp_path / "run", device="cpu", quiet=True)
    overrides = [
        "distill.samples=2",
        "distill.teacher_steps=1",
        "training.total_steps=4",
        "training.obs_noise=0.1",
        "distill.inputs=corrected",
    ]
    folder = distill(tmp_path / "run", nfe=1, overrides=overrides, device="cpu", quiet=True)
    policy = load_policy(folder)
    assert policy.nfe == 1
    assert policy.select_action(policy.fake_obs()).shape == (2,)


def test_a_student_learns_from_recorded_images_too(
    camera_config: MakeConfig, tmp_path: Path
) -> None:
    train(camera_config(), tmp_path / "run", device="cpu", quiet=True)
    rng = np.random.default_rng(3)
    arrays = {
        "action": np.zeros((20, 2), np.float32),
        "image": rng.integers(0, 255, (20, 20, 20, 3), np.uint8),
        "position": rng.normal(size=(20, 3)).astype(np.float32),
    }
    write_zarr(tmp_path / "seen.zarr", ReplayBuffer(arrays, np.array([9, 20])))
    overrides = ["distill.samples=2", "distill.teacher_steps=1", "training.total_steps=4"]
    plain = distill(
        tmp_path / "run", tmp_path / "a", nfe=1, overrides=overrides, device="cpu", quiet=True
    )
    overrides.append(f"distill.recording={tmp_path / 'seen.zarr'}")
    more = distill(
        tmp_path / "run", tmp_path / "b", nfe=1, overrides=overrides, device="cpu", quiet=True
    )
    # The features of either are kept beside the teacher's.
    assert len(list((tmp_path / "run" / FEATURES).iterdir())) == 2
    weights = [load_file(folder / "model.safetensors") for folder in (plain, more)]
    assert same(part(weights[0], "encoder."), part(weights[1], "encoder."))
    assert not same(part(weights[0], "blocks."), part(weights[1], "blocks."))


# -- resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "n", "step"),
    [
        ("joint", 0, 4),
        ("joint", 1, 4),
        ("joint", 2, 1),
        ("block1", 2, 1),
    ],
)
def test_resumes_to_the_same_weights(
    camera_config: MakeConfig,
    runs: Callable[[str], Path],
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    tmp_path: Path,
    mode: str,
    n: int,
    step: int,
) -> None:
    with stopped_at(n, step):
        train(camera_config(mode), tmp_path / "run", device="cpu", quiet=True)
    train(camera_config(mode), tmp_path / "run", device="cpu", quiet=True, resume=True)
    assert_same_weights(tmp_path / "run", runs(mode))


@pytest.mark.parametrize("mode", MODES)
def test_more_steps_for_a_run_that_is_not_complete_are_on_images_too(
    camera_config: MakeConfig,
    runs: Callable[[str], Path],
    weights: Weights,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    tmp_path: Path,
    mode: str,
) -> None:
    """One process goes from blocks that see features to an encoder that sees images again."""
    steps = {key.replace(".", "__"): value + 3 for key, value in MODES[mode].items()}
    more = camera_config(mode, training__total_steps=18, **steps)
    extended = Path(shutil.copytree(runs(mode), tmp_path / "extended"))
    train(more, extended, device="cpu", quiet=True, resume=True)
    with stopped_at(2, 1):
        train(camera_config(mode), tmp_path / "run", device="cpu", quiet=True)
    train(more, tmp_path / "run", device="cpu", quiet=True, resume=True)
    assert_same_weights(tmp_path / "run", extended)
    before, after = (part(weights(folder), "encoder.") for folder in (runs(mode), extended))
    assert not same(before, after)


@pytest.mark.parametrize(("n", "step"), [(0, 4), (1, 4)])
def test_an_encoder_with_all_its_options_resumes_and_its_features_are_kept(
    camera_config: MakeConfig,
    weights: Weights,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    tmp_path: Path,
    n: int,
    step: int,
) -> None:
    image = {"name": "compact", "width": 4, "keypoints": 3, "crop": [16, 16], "spread": True}
    image |= {"fine_keypoints": 2, "values": 1, "coordinates": True, "temperatures": "each"}
    config = camera_config(encoder__history="differences", encoder__image=image)
    with stopped_at(n, step):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    train(config, tmp_path / "run", device="cpu", quiet=True, resume=True)
    train(config, tmp_path / "whole", device="cpu", quiet=True)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    (features,) = (tmp_path / "whole" / FEATURES).rglob("*.safetensors")
    assert load_file(features)["image"].shape == (3, sum(LENGTHS), 5 * (5 + 1))


def test_blocks_in_processes_share_the_encoder_of_the_first(
    camera_config: MakeConfig, weights: Weights, tmp_path: Path, workers: list[int]
) -> None:
    parallel: dict[str, Any] = {"training__block_training": "parallel"}
    parallel["training__warm_start"] = False
    parallel["auxiliary__keys"] = ["spot"]  # which blocks after the first have no use for
    config = camera_config("block1", **parallel, training__parallel_processes=2)
    train(config, tmp_path / "two", device="cpu", quiet=True)
    assert workers == [1, 2]
    train(camera_config("block1", **parallel), tmp_path / "one", device="cpu", quiet=True)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert read_header(tmp_path / "two").also_trained_on == ["spot"]


# -- bad options --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__encoder_steps": 0}, "encoder_steps is 0 with training.encoder 'joint'"),
        ({"flow__coupling": "independent"}, "works with the dependent coupling only"),
        ({"flow__coupling": "optimal"}, "works with the dependent coupling only"),
        ({"training__parallel_processes": 2}, "parallel_processes is 2 .*'joint'"),
        ({"mode": "block1", "training__total_steps": 0}, "total_steps is 0, .* at least one step"),
        ({"training__encoder": "own"}, "'own', which was removed .* training.encoder=joint"),
        ({"training__encoder": "flow"}, "'flow', which was removed .* training.encoder=joint"),
    ],
)
def test_options_that_contradict(
    camera_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        camera_config(**changes)


def test_a_stage_for_nothing_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"training.encoder": "joint", "training.encoder_steps": 3})
    with pytest.raises(InputError, match="'state' has nothing to train"):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_state_encoder_may_have_a_stage_of_its_own(
    make_config: MakeConfig, weights: Weights, tmp_path: Path
) -> None:
    config = make_config(
        {
            "training.encoder": "joint",
            "training.encoder_steps": 4,
            "training.checkpoint_every": 2,
            "training.keep_checkpoints": 100,
            "encoder.hidden": [8],
        }
    )
    train(config, tmp_path / "run", device="cpu", quiet=True)
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    in_blocks = [path for path in checkpoints if path.name.startswith("block1-train")]
    frozen = part(weights(in_blocks[0]), "encoder.")
    assert same(frozen, part(weights(tmp_path / "run"), "encoder."))
    assert not same(part(weights(checkpoints[0]), "encoder."), frozen)
