"""Students: what they learn, what they remember, what is kept and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lfm_policy import InputError, load_policy
from lfm_policy.cli.main import main
from lfm_policy.config import EvalConfig, SamplerConfig, load_config
from lfm_policy.config.distillation import DistillConfig
from lfm_policy.config.flow import TimeConfig
from lfm_policy.distillation import distill, student_config
from lfm_policy.distillation.group import group_edges, teacher_groups, teacher_solver
from lfm_policy.distillation.methods import METHODS
from lfm_policy.distillation.methods.base import action_weights
from lfm_policy.distillation.methods.regression import RegressionLoss
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.distillation.samples import Pairs, teacher_noise
from lfm_policy.distillation.states import Reach
from lfm_policy.flow import SolverSpec
from lfm_policy.networks.options import TransformerConfig
from lfm_policy.policy import read_header
from lfm_policy.training import train
from lfm_policy.training.run import Run
from lfm_policy.training.trainer import Part, Trainer

pytestmark = pytest.mark.slow

QUICK = ["training.total_steps=6", "distill.samples=2", "distill.teacher_steps=4"]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_a_student_takes_one_step_per_block(teacher: Path, nfe: int) -> None:
    checkpoint = distill(teacher, nfe=nfe, overrides=QUICK, device="cpu", quiet=True)
    policy = load_policy(checkpoint)
    assert policy.nfe == policy.model.n_blocks == nfe
    batch = {key: value[None].repeat(2, 0)[None] for key, value in policy.fake_obs().items()}
    assert policy.predict_action_chunk(batch).shape == (1, 3, 2)
    header, parent = read_header(checkpoint), read_header(teacher)
    assert header.complete
    assert header.config.distill.teacher == parent.sha256
    assert header.config.distill.teacher_blocks == 2
    assert header.spec == parent.spec


def test_students_train_as_their_teachers_configuration_says(teacher: Path) -> None:
    parent = read_header(teacher)
    parent.config.distill.training = {"total_steps": 12, "obs_noise": 0.2}
    config = student_config(parent, nfe=2, method="regression")
    assert (config.training.total_steps, config.training.obs_noise) == (12, 0.2)
    assert config.training.batch_size == parent.config.training.batch_size
    assert config.distill.training == {}
    override = ["training.total_steps=8"]
    config = student_config(parent, nfe=2, method="regression", overrides=override)
    assert (config.training.total_steps, config.training.obs_noise) == (8, 0.2)
    with pytest.raises(InputError, match=r"distill.training is .* set training.<option>=<value>"):
        student_config(
            parent, nfe=2, method="regression", overrides=["distill.training={total_steps: 3}"]
        )


def test_noise_given_back_is_not_what_students_learn(teacher: Path) -> None:
    parent = read_header(teacher)
    parent.config.sampler.renoise = 0.8
    with pytest.warns(UserWarning, match=r"sampler.renoise of the teacher is 0.8"):
        config = student_config(parent, nfe=2, method="regression")
    assert config.sampler.renoise == 0


def test_students_have_the_network_that_their_teachers_configuration_names(teacher: Path) -> None:
    parent = read_header(teacher)
    parent.config.block_networks = [{"width": 24}, {"width": 48}]
    config = student_config(parent, nfe=1, method="regression")
    assert config.block_networks == [{"width": 48}]
    parent.config.distill.network = {"width": 8}
    config = student_config(parent, nfe=2, method="regression")
    assert config.network == replace(parent.config.network, width=8)  # type: ignore[call-arg]
    assert (config.block_networks, config.distill.network) == ([], {})
    parent.config.distill.network = {"name": "transformer", "width": 16, "dropout": 0.1}
    config = student_config(parent, nfe=2, method="regression")
    assert config.network == TransformerConfig(width=16, dropout=0.0)
    config = student_config(parent, nfe=2, method="regression", overrides=["network.width=32"])
    assert config.network == TransformerConfig(width=32, dropout=0.0)
    with pytest.raises(InputError, match=r"distill.network is .* set network.<option>=<value>"):
        student_config(parent, nfe=2, method="regression", overrides=["distill.network={width: 8}"])


@pytest.mark.parametrize(
    ("sampler", "overrides", "nfe", "expected"),
    [
        ({"solver": "", "nfe": 16}, [], 2, ("euler", 8)),
        ({"solver": "midpoint", "nfe": 64}, [], 2, ("midpoint", 16)),
        ({"solver": "euler", "nfe": 2}, ["distill.teacher_solver=midpoint"], 2, ("midpoint", 1)),
        ({"solver": "dopri5", "nfe": 5}, [], 1, ("dopri5", 2)),
        ({"solver": "euler", "nfe": 6}, ["distill.teacher_steps=4"], 1, ("euler", 4)),
        # Of half of a block.
        ({"solver": "euler", "nfe": 6}, [], 4, ("euler", 4)),
    ],
)
def test_students_learn_the_sampler_of_their_teacher(
    teacher: Path, sampler: dict[str, Any], overrides: list[str], nfe: int, expected: object
) -> None:
    parent = read_header(teacher)
    unsaid = replace(parent.config.distill, teacher_solver="", teacher_steps=0)
    config = replace(parent.config, sampler=SamplerConfig(**sampler), distill=unsaid)
    header = replace(parent, config=config)
    found = student_config(header, nfe=nfe, method="regression", overrides=overrides).distill
    assert (found.teacher_solver, found.teacher_steps) == expected


UNEVEN = {"block_nfe": [1, 3], "block_times": [[], [0.6, 0.2]], "noise_scale": 1.0}


@pytest.mark.parametrize(
    ("method", "overrides", "nfe", "steps"),
    [
        ("regression", [], 2, 0),
        ("regression", ["distill.teacher_steps=5"], 2, 5),
        ("regression", ["distill.teacher_solver=heun"], 2, 1),
        # Parts of blocks and states on the way are those of equal steps.
        ("regression", [], 4, 2),
        ("progressive", ["distill.trajectory_points=4"], 2, 4),
    ],
)
def test_students_of_a_teacher_whose_blocks_have_evaluations_of_their_own(
    teacher: Path, method: str, overrides: list[str], nfe: int, steps: int
) -> None:
    parent = read_header(teacher)
    unsaid = replace(parent.config.distill, teacher_solver="", teacher_steps=0)
    config = replace(parent.config, sampler=SamplerConfig(**UNEVEN), distill=unsaid)
    header = replace(parent, config=config)
    student = student_config(header, nfe=nfe, method=method, overrides=overrides)
    assert student.distill.teacher_steps == steps
    expected = SolverSpec(student.distill.teacher_solver, steps) if steps else SOLVERS_OF_UNEVEN
    assert teacher_solver(student.distill, config) == expected
    # Its own are one evaluation of each block.
    assert (student.sampler.nfe, student.sampler.block_nfe) == (nfe, [])
    assert student.sampler.block_times == []


SOLVERS_OF_UNEVEN = [SolverSpec("euler", 1), SolverSpec("euler", 3, times=(0.6, 0.2))]


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        # Two-step regression has learned nothing at other times.
        ({"nfe": 4, "times": [0.1]}, [SolverSpec("euler", 2, times=(0.1,))] * 2),
        (
            {"solver": "dopri5", "nfe": 4, "rtol": 1e-7, "atol": 1e-6},
            SolverSpec("dopri5", 2, rtol=1e-7, atol=1e-6),
        ),
    ],
)
def test_students_learn_from_the_steps_that_their_teacher_makes(
    teacher: Path, sampler: dict[str, Any], expected: object
) -> None:
    parent = read_header(teacher)
    unsaid = replace(parent.config.distill, teacher_solver="", teacher_steps=0)
    config = replace(parent.config, sampler=SamplerConfig(**sampler), distill=unsaid)
    student = student_config(replace(parent, config=config), nfe=2, method="regression")
    assert teacher_solver(student.distill, config) == expected


def test_students_are_rolled_out_with_their_own_evaluations(teacher: Path) -> None:
    parent = read_header(teacher)
    parent.config.eval = EvalConfig(every=100, nfe=8)
    config = student_config(parent, nfe=2, method="regression")
    assert (config.eval.every, config.eval.nfe) == (100, 0)
    config = student_config(parent, nfe=2, method="rectified", overrides=["eval.nfe=4"])
    assert config.eval.nfe == 4


@pytest.mark.parametrize(
    ("method", "overrides", "nfe", "known"),
    [
        ("regression", [], 2, True),
        ("rectified", ["distill.teacher_steps=1"], 1, True),
        ("regression", ["distill.teacher_steps=10"], 2, False),
        ("regression", ["distill.teacher_solver=midpoint"], 2, False),
        ("regression", [], 4, False),
        ("progressive", [], 2, False),
        ("distribution", [], 2, False),
    ],
)
def test_a_teacher_is_asked_at_the_times_that_it_knows(
    teacher: Path, method: str, overrides: list[str], nfe: int, known: bool
) -> None:
    parent = read_header(teacher)
    unsaid = replace(parent.config.distill, teacher_solver="", teacher_steps=0)
    time = TimeConfig(name="points", points=[1.0, 0.1])
    config = replace(
        parent.config,
        sampler=SamplerConfig(nfe=4, times=[0.1]),
        flow=replace(parent.config.flow, time=time),
        distill=unsaid,
    )
    header = replace(parent, config=config)
    expected = nullcontext() if known else pytest.raises(InputError, match=r"flow\.time\.points")
    with expected:
        student_config(header, nfe=nfe, method=method, overrides=overrides)


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_can_do_without_options_of_its_own(teacher: Path, method: str) -> None:
    """What the recipe for students says that a method cannot work with, it changes."""
    parent = read_header(teacher)
    config = replace(parent.config, sampler=SamplerConfig(), distill=DistillConfig())
    config = student_config(replace(parent, config=config), nfe=2, method=method)
    METHODS.get(method).check(config)
    assert config.distill.teacher_steps % METHODS.get(method).points(config.distill) == 0
    assert config.training.total_steps == 72_000


def test_a_student_of_another_kind_learns_from_the_same_samples(
    teacher: Path, tmp_path: Path
) -> None:
    """Teacher samples are shared between networks, and weights that do not fit are not taken."""
    distill(teacher, nfe=1, overrides=QUICK, device="cpu", quiet=True)
    parts = teacher / "pairs"
    before = {path: path.stat().st_mtime_ns for path in parts.rglob("*.safetensors")}
    assert before
    other = ["network.name=unet1d", "network.channels=[8]", *QUICK]
    checkpoint = distill(
        teacher, tmp_path / "other", nfe=1, overrides=other, device="cpu", quiet=True
    )
    after = {path: path.stat().st_mtime_ns for path in parts.rglob("*.safetensors")}
    assert after == before
    assert load_policy(checkpoint).nfe == 1
    assert read_header(checkpoint).config.network.name == "unet1d"


def test_groups_cover_the_teacher_and_their_times_add_up(teacher: Path) -> None:
    parent = read_header(teacher)
    model = load_policy(teacher).model
    groups = teacher_groups(model.chain(), group_edges(model.n_blocks, 1), SolverSpec("euler", 3))
    assert [(g.first, g.last) for g in groups] == [(1, 2)]
    groups = teacher_groups(model.chain(), group_edges(model.n_blocks, 2), SolverSpec("euler", 3))
    assert [(g.first, g.last) for g in groups] == [(1, 1), (2, 2)]
    # Group after group is the whole chain.
    y = torch.randn(5, *model.chunk_shape)
    cond = torch.randn(5, model.encoder.cond_dim)
    by_groups = groups[0].sample(groups[1].sample(y, cond), cond)
    whole = model.chain().sample(y, cond, solver=SolverSpec("euler", 3)).x
    torch.testing.assert_close(by_groups, whole)
    assert student_config(parent, nfe=2, method="regression").flow.step_sizes == [0.2]
    assert student_config(parent, nfe=1, method="regression").flow.step_sizes == []


@pytest.mark.parametrize("inputs", ["teacher", "student", "corrected"])
def test_pairs_are_the_teachers_samples(
    teacher: Path, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X is where the teacher's group takes y; y is the teacher's state or the student's.

    What a student learns is within reach of the data; the teacher goes on from what it said.
    """
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    original = DistillPlan.part

    def spy(plan: DistillPlan, n: int) -> Part:
        part = original(plan, n)
        assert isinstance(part.rows, Pairs)
        seen[n] = (part.rows.y, part.rows.path[:, 0])
        return part

    monkeypatch.setattr(DistillPlan, "part", spy)
    overrides = [*QUICK, f"distill.inputs={inputs}"]
    checkpoint = distill(teacher, nfe=2, overrides=overrides, device="cpu", quiet=True)
    parent, student = load_policy(teacher).model, load_policy(checkpoint).model
    noise, middle = seen[2]
    n_rows = len(noise)
    torch.testing.assert_close(noise, teacher_noise(0, n_rows, parent.chunk_shape))
    y, x = seen[1]
    cond = torch.cat(_encodings(checkpoint) * 2)
    solver = SolverSpec("midpoint", 4)
    first, second = teacher_groups(parent.chain(), group_edges(parent.n_blocks, 2), solver)
    said, reach = second.sample(noise, cond), Reach.of(read_header(teacher))
    assert reach is not None
    torch.testing.assert_close(middle, reach.bounded(said, Fraction(1)))
    if inputs == "teacher":
        torch.testing.assert_close(y, middle)
    else:
        with torch.no_grad():
            step = noise - student.blocks[1](noise, torch.ones(n_rows), cond)
        torch.testing.assert_close(y, step)
    # Corrected: where the teacher's own way ends, and not where it would go from y.
    end = first.sample(y if inputs == "student" else said, cond)
    torch.testing.assert_close(x, reach.bounded(end, Fraction(0)))


def _encodings(checkpoint: Path) -> list[torch.Tensor]:
    from lfm_policy.training.rows.data import load_datasets

    header = read_header(checkpoint)
    data = load_datasets(header.config).train
    encoder = load_policy(checkpoint).model.encoder
    return [encoder(data.gather_obs(torch.arange(len(data))))]


def test_regression_loss_is_the_formula() -> None:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
            assert torch.equal(t, torch.ones(len(x)))
            return 2 * x + cond[:, :, None]

    y, x, cond = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.randn(4, 3)
    loss = RegressionLoss(Double(), None, DistillConfig())(y, x[:, None], cond)  # type: ignore[arg-type]
    assert loss == pytest.approx(float((y - (2 * y + cond[:, :, None]) - x).square().mean()))


def test_actions_that_are_never_executed_weigh_less(teacher: Path) -> None:
    config = read_header(teacher).config  # n_obs_steps 2, horizon and n_action_steps as below
    horizon, executed = config.policy.horizon, config.policy.n_action_steps
    assert torch.equal(action_weights(config), torch.ones(horizon))
    config.distill.tail_weight = 0.0
    weights = action_weights(config)
    assert weights.mean() == pytest.approx(1)
    first = config.policy.n_obs_steps - 1
    assert weights.nonzero().flatten().tolist() == list(range(first, first + executed))
    # The weighted loss is the mean over the actions that count.
    y, x = torch.zeros(4, horizon, 2), torch.randn(4, horizon, 2)
    zero = torch.nn.Identity()
    zero.forward = lambda x, t, cond: torch.zeros_like(x)  # type: ignore[method-assign]
    loss = RegressionLoss(zero, None, config.distill, weights)(y, x[:, None], None)  # type: ignore[arg-type]
    counted = x[:, first : first + executed]
    assert float(loss) == pytest.approx(float(counted.square().mean()), rel=1e-5)


def test_correction_is_for_methods_without_a_path(teacher: Path) -> None:
    overrides = [*QUICK, "distill.inputs=corrected"]
    with pytest.raises(InputError, match=r"distill.inputs is 'corrected' with .* 'progressive'"):
        distill(teacher, nfe=2, method="progressive", overrides=overrides, device="cpu")


def test_observation_noise_displaces_what_teacher_and_student_see(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, torch.Tensor] = {}
    original = DistillPlan.part

    def spy(plan: DistillPlan, n: int) -> Part:
        part = original(plan, n)
        for key, pairs in (("training", part.rows), ("validation", part.validation)):
            if isinstance(pairs, Pairs):
                seen[key] = pairs.condition(torch.arange(len(pairs)))  # type: ignore[assignment]
        return part

    monkeypatch.setattr(DistillPlan, "part", spy)
    overrides = [*QUICK, "training.obs_noise=0.1"]
    checkpoint = distill(teacher, nfe=1, overrides=overrides, device="cpu", quiet=True)
    plain = torch.cat(_encodings(checkpoint) * 2)
    displacement = seen["training"] - plain
    assert displacement.std() == pytest.approx(0.1, rel=0.15)
    # Every row has its own: the two samples of a window see different observations.
    first, second = displacement.chunk(2)
    assert (first - second).abs().min() > 0
    if "validation" in seen:
        assert len(seen["validation"]) < len(plain)


def test_displaced_observations_look_like_observations(teacher: Path) -> None:
    """Samples of the teacher for one shape of the noise do not serve the other."""
    folders = []
    for covariance in ("identity", "data"):
        overrides = [
            *QUICK,
            "training.obs_noise=0.1",
            f"training.obs_noise_covariance={covariance}",
        ]
        folder = teacher.parent / covariance
        distill(teacher, folder, nfe=1, overrides=overrides, device="cpu", quiet=True)
        folders.append(set((teacher / "pairs").iterdir()))
    assert len(folders[0]) == 1
    assert len(folders[1]) == 2


@pytest.mark.parametrize(
    "change", ["dataset.split_seed=7", "dataset.validation_ratio=0.4", "policy.n_action_steps=1"]
)
def test_samples_about_other_windows_are_other_samples(teacher: Path, change: str) -> None:
    for folder, changes in (("as_ever", []), ("split", [change])):
        overrides = [*QUICK, *changes]
        distill(
            teacher, teacher.parent / folder, nfe=1, overrides=overrides, device="cpu", quiet=True
        )
    assert len(list((teacher / "pairs").iterdir())) == 2


def test_distillation_approaches_the_teacher(teacher: Path) -> None:
    overrides = [
        "training.total_steps=600",
        "training.batch_size=64",
        "training.learning_rate=0.005",
        "network.width=48",
        "training.validation_every=600",
        "training.log_every=20",
        "training.ema_decay=0.9",
    ]
    checkpoint = distill(teacher, nfe=2, overrides=overrides, device="cpu", quiet=True)
    records = [json.loads(line) for line in (checkpoint.parent.parent / "metrics.jsonl").open()]
    for block in (1, 2):
        losses = [r["loss"] for r in records if r["kind"] == "train" and r["block"] == block]
        assert losses[-1] < 0.2 * losses[0]


def test_interrupted_and_resumed_is_the_same_to_the_bit(
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt_step: Callable[..., list[int]],
) -> None:
    overrides = [*QUICK, "training.checkpoint_every=1", "distill.batch_size=16"]
    arguments = {"nfe": 2, "overrides": overrides, "device": "cpu", "quiet": True}
    whole = distill(teacher, tmp_path / "whole", **arguments)

    from lfm_policy.distillation import samples

    # Once among the teacher's samples, then in the second block that is trained.
    write, parts = samples.write_tensors, []

    def failing_write(*args: object) -> str:
        parts.append(args)
        if len(parts) == 3:
            raise KeyboardInterrupt
        return write(*args)  # type: ignore[arg-type]

    other = {**arguments, "pairs_folder": tmp_path / "pairs"}
    monkeypatch.setattr(samples, "write_tensors", failing_write)
    begun = interrupt_step(5)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            distill(teacher, tmp_path / "pieces", resume=True, **other)
    pieces = distill(teacher, tmp_path / "pieces", resume=True, **other)
    assert len(begun) > 5
    assert same(weights(whole), weights(pieces))


def test_teacher_samples_are_made_once_for_all_students(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill(teacher, nfe=2, overrides=QUICK, device="cpu", quiet=True)
    assert len(list((teacher / "pairs").iterdir())) == 2

    from lfm_policy.distillation.group import TeacherGroup

    sampled: list[int] = []
    original = TeacherGroup.trajectory

    def spy(
        self: TeacherGroup, y: torch.Tensor, cond: torch.Tensor | None, points: int
    ) -> torch.Tensor:
        sampled.append(len(y))
        return original(self, y, cond, points)

    monkeypatch.setattr(TeacherGroup, "trajectory", spy)
    distill(teacher, nfe=1, overrides=QUICK, device="cpu", quiet=True)
    # Only those of the validation windows, which are not kept.
    assert len(sampled) == 1
    assert len(list((teacher / "pairs").iterdir())) == 2


def test_smaller_students_and_warm_start(teacher: Path) -> None:
    small = distill(teacher, nfe=2, overrides=[*QUICK, "network.width=8"], device="cpu", quiet=True)
    assert weights(small)["blocks.0.proj_in.weight"].shape[0] == 8
    frozen = [*QUICK, "training.learning_rate=0.0", "training.weight_decay=0.0"]
    warm = distill(teacher, teacher / "warm", nfe=2, overrides=frozen, device="cpu", quiet=True)
    assert same(weights(warm), weights(read_header(teacher).folder))
    cold = [*frozen, "distill.warm_start=false"]
    other = distill(teacher, teacher / "cold", nfe=2, overrides=cold, device="cpu", quiet=True)
    assert not same(weights(other), weights(warm))


def test_bad_input_is_refused(teacher: Path, tmp_path: Path, small_config: Path) -> None:
    with pytest.raises(InputError, match=r"nfe is 3, expected a divisor .* 2 block\(s\): 1, 2;"):
        distill(teacher, nfe=3, device="cpu")
    with pytest.raises(InputError, match="unknown distillation method 'regresion'.*regression"):
        distill(teacher, nfe=1, method="regresion", device="cpu")
    with pytest.raises(InputError, match=r"unknown key 'distill.sample'.*samples"):
        distill(teacher, nfe=1, overrides=["distill.sample=3"], device="cpu")
    student = distill(teacher, nfe=2, overrides=QUICK, device="cpu", quiet=True)
    with pytest.raises(InputError, match="is a student itself"):
        distill(student, nfe=1, device="cpu")
    with pytest.raises(InputError, match="there is a run already"):
        distill(teacher, nfe=2, overrides=QUICK, device="cpu")
    with pytest.raises(InputError, match="trained on other demonstrations"):
        overrides = [*QUICK, "dataset.max_episodes=4"]
        distill(teacher, tmp_path / "other", nfe=1, overrides=overrides, device="cpu")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "override",
    [
        "encoder.history=differences",
        "encoder.hidden=[8]",
        "policy.n_obs_steps=1",
        "policy.horizon=5",
    ],
)
def test_a_student_sees_what_its_teacher_sees(teacher: Path, override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(InputError, match=rf"{key} is .*, expected the teacher's .*--student-conf"):
        distill(teacher, nfe=1, overrides=[*QUICK, override], device="cpu", quiet=True)


def test_an_unfinished_teacher_is_refused(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Run.checkpoint

    def stop_after_checkpoint(run: Run, trainer: Trainer, **options: bool) -> None:
        original(run, trainer, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", stop_after_checkpoint)
    config = load_config(str(small_config), ["training.checkpoint_every=2"])
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match="training is not complete"):
        distill(tmp_path / "run", nfe=1, device="cpu")


def test_command_line(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["distill", str(teacher), "--nfe", "1", "--device", "cpu", "--json"]
    assert main([*arguments, *QUICK]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["training"]["complete"] is True
    assert load_policy(answer["checkpoint"]).nfe == 1
    assert main([*arguments, *QUICK]) == 2
    assert "there is a run already" in capsys.readouterr().err
    assert main(["distill", str(teacher), "--nfe", "5"]) == 2
    assert "expected a divisor" in capsys.readouterr().err


def test_students_of_groups_of_different_sizes(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        "flow.n_blocks=3",
        "flow.step_sizes=[0.1,0.2]",
        "block_networks=[{width: 16},{width: 8},{width: 24}]",
        "training.total_steps=9",
    ]
    config = load_config(str(small_config), overrides)
    teacher = train(config, tmp_path / "run", device="cpu", quiet=True)
    command = ["distill", str(teacher), "--device", "cpu", "--json", *QUICK]
    assert main([*command, "--groups", "2,1"]) == 0
    student = json.loads(capsys.readouterr().out)["checkpoint"]
    assert Path(student).parents[1].name == "student-nfe2-2-1-regression"
    config = read_header(student).config
    assert config.distill.groups == [2, 1] and config.flow.n_blocks == 2
    assert config.flow.step_sizes == pytest.approx([0.1 + 0.2])
    assert [network["width"] for network in config.block_networks] == [8, 24]
    assert load_policy(student).nfe == 2
    # Other groups begin elsewhere, so one's student is not the other's.
    assert main([*command, "--groups", "1,2"]) == 0
    other = json.loads(capsys.readouterr().out)["checkpoint"]
    assert [network["width"] for network in read_header(other).config.block_networks] == [16, 24]

    for groups, message in (
        (["--groups", "2,2"], "groups are [2, 2], expected 2 whole number(s) of at least 1"),
        (["--groups", "3", "distill.groups=[1,2]"], "it follows from --groups"),
    ):
        assert main([*command, *groups]) == 2
        assert message in capsys.readouterr().err
    for options, message in (
        (["--nfe", "1", "--groups", "3"], "not allowed with argument"),
        (["--groups", "2,x"], "argument --groups: '2,x', expected numbers such as 2,1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*command, *options])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("method", ["regression", "progressive"])
def test_a_student_goes_on_with_more_steps(teacher: Path, tmp_path: Path, method: str) -> None:
    def distilled(steps: int, *more: str) -> Path:
        return distill(
            teacher,
            tmp_path / "student",
            nfe=2,
            method=method,
            overrides=[f"training.total_steps={steps}", "distill.inputs=student", *more],
            resume=True,
            quiet=True,
        )

    first = weights(distilled(8))
    header = read_header(distilled(12))
    assert header.training["block_steps"] == [6, 6]
    assert header.config.training.extended_from == [8]
    assert not same(first, weights(header.folder))
    with pytest.raises(InputError, match="training.total_steps was 12, is now 8"):
        distilled(8)
