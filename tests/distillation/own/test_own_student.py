"""Students that see something else than their teacher: their own eyes, its chunks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lfm_policy import InputError, load_policy
from lfm_policy.cli.main import main
from lfm_policy.config.training import TrainingConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill, student_config
from lfm_policy.distillation.own.joint import Ways
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.distillation.states import Reach
from lfm_policy.flow import SolverSpec
from lfm_policy.policy import read_header
from lfm_policy.training import train
from lfm_policy.training.trainer import Part, Trainer

pytestmark = pytest.mark.slow

ENDS = np.cumsum([12, 9, 15, 10, 11, 13])
TEACHER_STEPS = 3

Distil = Callable[..., Path]


def arrays_of(ends: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return random arrays whose image says in its first pixel at which step it is."""
    generator, n = np.random.default_rng(seed), int(ends[-1])
    image = generator.integers(0, 255, (n, 20, 20, 3), dtype=np.uint8)
    image[:, 0, 0, 0] = np.arange(n)
    return {
        "action": generator.uniform(0, 500, (n, 2)).astype(np.float32),
        "goal": generator.uniform(0, 500, (n, 2)).astype(np.float32),
        "position": generator.uniform(0, 500, (n, 2)).astype(np.float32),
        "pose": generator.uniform(0, 500, (n, 4)).astype(np.float32),
        "image": image,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations with the state and with images."""
    path = tmp_path_factory.mktemp("both") / "both.zarr"
    write_zarr(path, ReplayBuffer(arrays_of(ENDS, 0), ENDS))
    return path


@pytest.fixture(scope="module")
def trained(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that sees the state, of three frames."""
    from lfm_policy.config import load_config

    options = {
        "name": "knows",
        "dataset": {"path": str(both), "obs_keys": ["position", "pose"], "validation_ratio": 0.2},
        "policy": {"n_obs_steps": 3, "horizon": 7, "n_action_steps": 3},
        "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 2, "c": 0.2},
        "sampler": {"nfe": 2 * TEACHER_STEPS, "solver": "euler"},
        "push_forward": {"solver": "euler", "n_steps": 2},
        "training": {"total_steps": 40, "batch_size": 16, "learning_rate": 0.01, "tracker": "none"},
    }
    folder = tmp_path_factory.mktemp("runs") / "knows"
    train(load_config(options), folder, device="cpu", quiet=True)
    return folder


@pytest.fixture()
def knows(trained: Path, tmp_path: Path) -> Path:
    """A copy of the teacher."""
    return Path(shutil.copytree(trained, tmp_path / "knows"))


EYES: dict[str, Any] = {
    "name": "eyes",
    "dataset": {"obs_keys": ["image", "position"], "validation_ratio": 0.2},
    "policy": {"n_obs_steps": 2},
    "encoder": {"name": "cameras", "image": {"name": "compact", "crop": [16, 16]}},
    "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
    "training": {
        "encoder_steps": 4,
        "encoder_batch_size": 4,
        "total_steps": 4,
        "batch_size": 8,
        "encoder_views": 2,
        "tracker": "none",
    },
    "distill": {"samples": 2},
}


def eyes(teacher: Path, output: Path | None = None, *overrides: str, **options: Any) -> Path:
    given = {"nfe": 2, "own": EYES, "overrides": overrides, "device": "cpu", "quiet": True}
    return distill(teacher, output, **(given | options))


def parts_of(patch: pytest.MonkeyPatch) -> list[Part]:
    parts: list[Part] = []
    original = DistillPlan.part

    def spy(plan: DistillPlan, n: int) -> Part:
        parts.append(original(plan, n))
        return parts[-1]

    patch.setattr(DistillPlan, "part", spy)
    return parts


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def test_it_learns_by_its_own_eyes_what_its_teacher_does(knows: Path) -> None:
    checkpoint = eyes(knows)
    assert checkpoint.parent.parent == knows / "eyes-nfe2-regression"
    header, policy = read_header(checkpoint), load_policy(checkpoint)
    assert header.complete and header.training["encoder_steps"] == 4
    assert header.training["block_steps"] == [2, 2]
    assert header.config.distill.student_config == "eyes"
    assert header.config.distill.teacher_obs == ["position", "pose"]
    assert header.only_teacher_saw == ("pose",)
    assert list(header.spec.obs_shapes) == ["image", "position"]
    assert (header.config.policy.horizon, header.config.policy.n_action_steps) == (7, 3)
    assert policy.nfe == 2 and policy.select_action(policy.fake_obs()).shape == (2,)
    # Its actions have the teacher's scale, to the bit.
    mine, theirs = (p.normalizer["action"] for p in (policy, load_policy(knows)))
    assert torch.equal(mine.scale, theirs.scale) and torch.equal(mine.offset, theirs.offset)


def test_targets_are_the_teachers_own_samples_at_the_same_moments(
    knows: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recordings = []
    for k, lengths in enumerate(([8, 11], [9])):
        ends = np.cumsum(lengths)
        recordings.append((ends, arrays_of(ends, 7 + k)))
        write_zarr(tmp_path / f"{k}.zarr", ReplayBuffer(recordings[k][1], ends))
    paths = ",".join(str(tmp_path / f"{k}.zarr") for k in range(2))
    parts = parts_of(monkeypatch)
    eyes(knows, None, f"distill.recording=[{paths}]")
    rows, teacher = parts[0].rows, load_policy(knows)
    assert isinstance(rows, Ways)
    noise, obs, ends, _ = rows.batch(torch.arange(len(rows)), training=False)
    n_windows = len(rows) // 2
    # Of which data set a row is, and the step that its newest image was taken at.
    newest = obs["image"][:, -1, 0, 0, 0].long().numpy()
    sources = [(ENDS, arrays_of(ENDS, 0)), *recordings]
    n_recorded = [
        sum(length - 7 + 2 - 1 + 3 for length in np.diff(e, prepend=0)) for e, _ in recordings
    ]
    lengths = [n_windows - sum(n_recorded), *n_recorded]
    source_of = np.repeat(np.arange(3), lengths)
    assert len(source_of) == n_windows and lengths[0] > 0
    chain, reach = teacher.model.chain(), Reach.of(read_header(knows))
    assert reach is not None
    for row in range(0, len(rows), 5):
        ends_there, arrays = sources[source_of[row % n_windows]]
        now = newest[row]
        first = max((end for end in ends_there if end <= now), default=0)
        history = np.clip(np.arange(now - 2, now + 1), first, None)
        batch = {
            key: teacher.normalizer.normalize(key, torch.from_numpy(arrays[key][history]))[None]
            for key in ("position", "pose")
        }
        torch.testing.assert_close(
            obs["position"][row, -1], batch["position"][0, -1], atol=1e-5, rtol=1e-5
        )
        # The teacher's chunk begins a frame earlier than the student's.
        y = noise[row : row + 1].roll(1, dims=1)
        cond = teacher.model.encoder(batch)
        solver = SolverSpec("euler", TEACHER_STEPS)
        state = chain.sample(y, cond, solver=solver, first=2, last=2).x
        state = reach.bounded(state, Fraction(1))
        torch.testing.assert_close(ends[row, 1], state[0].roll(-1, dims=0), atol=1e-4, rtol=1e-4)
        chunk = reach.bounded(chain.sample(y, cond, solver=solver).x[0], Fraction(0))
        expected = torch.cat([chunk[1:], chunk[-1:]])
        torch.testing.assert_close(ends[row, 0], expected, atol=1e-4, rtol=1e-4)
    # The blocks go on with the same pairs, from where the student itself leads.
    assert [part.n for part in parts] == [0, 2, 1]
    last = parts[1].rows.batch(torch.arange(len(rows)), training=False)
    torch.testing.assert_close(last[0], noise)
    torch.testing.assert_close(last[1][:, 0], ends[:, 1])


def test_the_encoder_learns_with_all_blocks_and_is_frozen_then(
    knows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[set[str]] = []
    original = DistillPlan.finish

    def finish(plan: DistillPlan, n: int, trainer: Trainer) -> None:
        model = plan._run.model.state_dict()
        state = {name: tensor.clone() for name, tensor in model.items()}
        before = seen[-1]
        names = {k for k in state if not torch.equal(state[k], before[k])}
        changed.append({".".join(k.split(".")[:2]) if "blocks" in k else "encoder" for k in names})
        seen.append(state)
        original(plan, n, trainer)

    seen: list[dict[str, torch.Tensor]] = []
    restore = DistillPlan.__init__

    def init(plan: DistillPlan, *args: Any, **values: Any) -> None:
        restore(plan, *args, **values)
        model = plan._run.model.state_dict()
        seen.append({name: tensor.clone() for name, tensor in model.items()})

    monkeypatch.setattr(DistillPlan, "__init__", init)
    monkeypatch.setattr(DistillPlan, "finish", finish)
    eyes(knows)
    assert changed == [{"encoder", "blocks.0", "blocks.1"}, {"blocks.1"}, {"blocks.0"}]


@pytest.mark.parametrize("step", [3, 6, 8])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    knows: Path, tmp_path: Path, interrupt_step: Callable[..., list[int]], step: int
) -> None:
    whole = eyes(knows, tmp_path / "whole")
    interrupt_step(step)
    with pytest.raises(KeyboardInterrupt):
        eyes(knows, tmp_path / "parts", "training.checkpoint_every=1")
    resumed = eyes(knows, tmp_path / "parts", "training.checkpoint_every=1", resume=True)
    before, after = weights(whole), weights(resumed)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_teacher_is_asked_once_for_all_its_students(knows: Path, tmp_path: Path) -> None:
    eyes(knows)
    parts = {p: p.stat().st_mtime_ns for p in (knows / "pairs").rglob("*.safetensors")}
    assert parts
    eyes(knows, tmp_path / "wider", "network.width=24", "seed=0")
    assert {p: p.stat().st_mtime_ns for p in (knows / "pairs").rglob("*.safetensors")} == parts


def test_a_teacher_with_other_eyes(both: Path, tmp_path: Path) -> None:
    """A large image policy and a student with a cheaper encoder: the same keys, other features."""
    from lfm_policy.config import load_config

    options = {**EYES, "policy": {"n_obs_steps": 2, "horizon": 7, "n_action_steps": 3}}
    options["dataset"] = {**EYES["dataset"], "path": str(both)}
    options["flow"] = {"n_blocks": 1}
    train(load_config(options), tmp_path / "large", device="cpu", quiet=True)
    own = {**EYES, "encoder": {**EYES["encoder"], "hidden": [8]}}
    checkpoint = eyes(tmp_path / "large", own=own, nfe=1)
    header = read_header(checkpoint)
    assert header.only_teacher_saw == () and header.config.encoder.hidden == [8]  # type: ignore[attr-defined]


def test_its_configuration_says_how_it_trains(knows: Path) -> None:
    teacher = read_header(knows)

    def training(said: dict[str, Any], distill: dict[str, Any] | None = None) -> TrainingConfig:
        own = {**EYES, "training": said, "distill": {"training": distill or {}}}
        return student_config(teacher, nfe=1, method="regression", own=own).training

    recipe = training({})
    assert (recipe.total_steps, recipe.learning_rate, recipe.encoder) == (72_000, 3e-3, "joint")
    assert (recipe.encoder_steps, recipe.encoder_learning_rate) == (30_000, 1e-3)
    own = training({"learning_rate": 1e-4, "total_steps": 10})
    assert (own.learning_rate, own.encoder_learning_rate, own.total_steps) == (1e-4, 0.0, 10)
    assert training({"total_steps": 10}, {"total_steps": 20}).total_steps == 20


def test_who_looks_at_it_sees_what_only_its_teacher_saw(
    knows: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "eyes.yaml"
    config.write_text(json.dumps(EYES))
    command = ["distill", str(knows), "--nfe", "1", "--student-config", str(config)]
    assert main([*command, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "student sees: image, position; its teacher: position, pose" in printed
    assert "estimate: about" in printed and "encoder " in printed.partition("estimate")[2]
    student = str(knows / "eyes-nfe1-regression")
    assert main(["inspect", student]) == 0
    assert "only the teacher saw pose" in capsys.readouterr().out
    assert main(["inspect", student, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["only_teacher_saw"] == ["pose"]


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (["policy.horizon=8"], {}, r"policy.horizon is 8, expected 7 .* add policy.horizon=7"),
        (["policy.n_action_steps=2"], {}, "n_action_steps is 2, expected 3"),
        (["normalization.action=standard"], {}, "normalization.action is 'standard', expected"),
        (["training.encoder=block1"], {}, "training.encoder is 'block1', expected 'joint'"),
        ([], {"method": "distribution"}, "asks the teacher in every step"),
        (["distill.teacher_dataset={obs_keys: [position, posture]}"], {}, "data/posture.*pose"),
        (["distill.teacher_dataset={obs_key: []}"], {}, "distill.teacher_dataset.obs_key"),
        (["distill.teacher_dataset={action_key: goal}"], {}, "holds other actions than"),
        (["distill.teacher_dataset={max_episodes: 3}"], {}, "expected the same episodes"),
        (["dataset.obs_keys=[image, posture]"], {}, "there is no array data/posture"),
        (["dataset.action_key=pose"], {}, "actions have 4 numbers, expected 2"),
    ],
)
def test_what_does_not_fit_is_said(
    knows: Path, overrides: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        eyes(knows, None, *overrides, **options)


def test_demonstrations_that_lack_what_the_teacher_sees(knows: Path, tmp_path: Path) -> None:
    arrays = {k: v for k, v in arrays_of(ENDS, 0).items() if k != "pose"}
    write_zarr(tmp_path / "blind.zarr", ReplayBuffer(arrays, ENDS))
    with pytest.raises(InputError, match=r"no array data/pose.*have to hold what the teacher"):
        eyes(knows, None, f"dataset.path={tmp_path / 'blind.zarr'}")


def test_recordings_that_lack_what_the_student_sees(knows: Path, tmp_path: Path) -> None:
    arrays = {k: v for k, v in arrays_of(ENDS, 0).items() if k != "image"}
    write_zarr(tmp_path / "seen.zarr", ReplayBuffer(arrays, ENDS))
    with pytest.raises(InputError, match="seen.zarr: there is no array data/image"):
        eyes(knows, None, f"distill.recording={tmp_path / 'seen.zarr'}")


def test_the_bundled_configuration_reads_pusht_by_both_kinds_of_observation(
    pusht_zarr: Path, tmp_path: Path
) -> None:
    from lfm_policy.config import load_config

    few = [f"dataset.path={pusht_zarr}", "dataset.max_episodes=3", "dataset.validation_ratio=0"]
    quick = ["training.total_steps=3", "training.tracker=none", "network.width=16"]
    train(load_config("pusht/lfm3", [*few, *quick]), tmp_path / "t", device="cpu", quiet=True)
    steps = [
        "training.encoder_steps=1",
        "training.encoder_batch_size=4",
        "training.encoder_views=1",
    ]
    overrides = [*few[1:], *quick, *steps, "distill.samples=1", "distill.teacher_steps=1"]
    checkpoint = eyes(
        tmp_path / "t", None, *overrides, own="pusht/image_student", nfe=2, groups=(2, 1)
    )
    header = read_header(checkpoint)
    assert header.only_teacher_saw == ("block_pose", "keypoints")
    assert header.config.env.id == "lfm/PushTImage-v0"
    assert header.config.dataset.path == str(pusht_zarr)  # type: ignore[attr-defined]


def test_another_round_starts_from_the_weights_of_the_one_before(
    knows: Path, tmp_path: Path
) -> None:
    first = eyes(knows, tmp_path / "one")
    ends = np.cumsum([8, 11])
    write_zarr(tmp_path / "went.zarr", ReplayBuffer(arrays_of(ends, 7), ends))
    more = [f"distill.recording={tmp_path / 'went.zarr'}", "training.learning_rate=0.0"]
    frozen = [*more, "training.encoder_learning_rate=1.0e-9", "training.weight_decay=0"]
    second = eyes(knows, tmp_path / "two", *frozen, init_from=first)
    before, after = weights(first), weights(second)
    for name in before:
        torch.testing.assert_close(before[name], after[name], atol=1e-6, rtol=0)
    assert read_header(second).config.init.source == read_header(first).sha256
    theirs, mine = (load_policy(path).normalizer for path in (first, second))
    assert torch.equal(theirs["position"].scale, mine["position"].scale)
    # Going on needs no name of the one before.
    assert eyes(knows, tmp_path / "two", *frozen, resume=True) == second
    with pytest.raises(InputError, match=r"expected a student with the configuration 'others'"):
        eyes(knows, tmp_path / "three", init_from=first, own={**EYES, "name": "others"})


def test_its_card_says_what_only_its_teacher_saw(knows: Path) -> None:
    from lfm_policy.sharing.card import CardOptions, model_card
    from lfm_policy.sharing.reports import Measured

    header = read_header(eyes(knows))
    text = model_card(header, Measured(), CardOptions("me/eyes"))
    assert "That teacher also saw `pose`" in text
    assert "state beyond its own observations" in text


def test_its_encoder_may_learn_to_tell_what_the_dataset_knows_besides(
    knows: Path, tmp_path: Path
) -> None:
    checkpoint = eyes(knows, None, "auxiliary.keys=[goal]", "training.log_every=1")
    header = read_header(checkpoint)
    assert header.also_trained_on == ["goal"] and header.only_teacher_saw == ("pose",)
    metrics = (checkpoint.parent.parent / "metrics.jsonl").read_text()
    assert "auxiliary_rmse_goal" in metrics
    ends = np.cumsum([8, 11])
    write_zarr(tmp_path / "went.zarr", ReplayBuffer(arrays_of(ends, 7), ends))
    both = ["auxiliary.keys=[goal]", f"distill.recording={tmp_path / 'went.zarr'}"]
    with pytest.raises(InputError, match=r"auxiliary.keys with distill.recording"):
        eyes(knows, tmp_path / "other", *both)


@pytest.mark.parametrize("name", ["both.hdf5", "both-lerobot"])
def test_demonstrations_of_another_format_than_the_teachers(
    knows: Path, both: Path, tmp_path: Path, name: str
) -> None:
    command = ["convert", str(both), str(tmp_path / name), "--fps", "10"]
    assert main(command) == 0
    where = [f"dataset.path={tmp_path / name}"]
    if name == "both-lerobot":
        where.append("dataset.obs_keys=[observation.image,observation.position]")
    checkpoint = eyes(knows, None, *where)
    header = read_header(checkpoint)
    assert header.config.dataset.name != read_header(knows).config.dataset.name
    assert header.only_teacher_saw == ("pose",)
    assert set(header.spec.obs_shapes) == {"image", "position"}
