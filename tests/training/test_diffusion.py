"""A diffusion policy from its training to its students, and what its configuration may not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation import distill
from lfm_policy.errors import InputError
from lfm_policy.policy import Policy, load_policy
from lfm_policy.training import train

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]

DIFFUSION: dict[str, Any] = {
    "flow.n_blocks": 1,
    "flow.method": "diffusion",
    "distill.teacher_solver": "",
}
QUICK = ["training.total_steps=4", "distill.samples=1"]


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusion") / "run"
    train(make_config({**DIFFUSION, "training.total_steps": 200}), folder, device="cpu", quiet=True)
    return folder


def observations(policy: Policy, rows: int) -> dict[str, np.ndarray]:
    frames = [policy.fake_obs(seed) for seed in range(2 * rows)]
    return {
        key: np.stack([f[key] for f in frames]).reshape(rows, 2, *shape)
        for key, shape in policy.spec.obs_shapes.items()
    }


def test_it_samples_with_ddim_where_nothing_else_is_said(run: Path) -> None:
    policy = load_policy(run)
    assert (policy.solver, policy.nfe, policy.nfe_per_block) == ("ddim", 4, (4,))
    obs, noise = observations(policy, 3), torch.randn(3, 4, 2)
    for sampler in ({}, {"solver": "ddpm", "nfe": 100}, {"solver": "dpmsolver++", "nfe": 6}):
        policy.set_sampler(**sampler)
        together = policy.sample(obs, noise=noise)
        assert together.nfe == policy.nfe
        # Whatever else is in the batch, and was sampled before.
        torch.manual_seed(7)
        alone = policy.sample({k: v[1:2] for k, v in obs.items()}, noise=noise[1:2])
        torch.testing.assert_close(alone.chunk[0], together.chunk[1], rtol=1e-3, atol=1e-3)
    policy.set_sampler(solver="ddpm", nfe=100, noise_scale=0.0)
    first, again = policy.sample(obs).chunk, policy.sample(obs).chunk
    assert torch.equal(first, again)


def test_its_loss_becomes_smaller(run: Path) -> None:
    block = load_policy(run).info["blocks"][0]
    assert block["validation_loss"] < 0.9  # of the noise, whose mean square is 1


def test_a_sampler_is_saved_with_the_policy(run: Path, tmp_path: Path) -> None:
    policy = load_policy(run)
    policy.set_sampler(solver="dpmsolver++", nfe=3)
    saved = load_policy(policy.save(tmp_path / "saved"))
    assert (saved.solver, saved.nfe) == ("dpmsolver++", 3)


@pytest.mark.parametrize("nfe", [1, 2])
def test_its_students_learn_from_its_flow(run: Path, tmp_path: Path, nfe: int) -> None:
    student = distill(run, tmp_path / "student", nfe=nfe, overrides=QUICK, device="cpu", quiet=True)
    policy = load_policy(student)
    options = policy.config.distill
    assert (options.teacher_solver, options.teacher_steps) == ("midpoint", 16)
    assert policy.nfe == nfe and policy.solver == "euler"
    assert policy.config.flow.method.name == "velocity"
    assert bool(torch.isfinite(policy.sample(observations(policy, 2)).chunk).all())


def test_students_along_its_trajectories(run: Path, tmp_path: Path) -> None:
    few = [*QUICK, "distill.trajectory_points=4", "distill.teacher_steps=8"]
    student = distill(
        run,
        tmp_path / "student",
        nfe=2,
        method="consistency",
        overrides=few,
        device="cpu",
        quiet=True,
    )
    assert load_policy(student).nfe == 2


def test_students_of_a_scheduler_are_refused(run: Path, tmp_path: Path) -> None:
    asked = [*QUICK, "distill.teacher_solver=ddim"]
    with pytest.raises(InputError, match=r"distill\.teacher_solver is 'ddim', expected one that"):
        distill(run, tmp_path / "student", nfe=1, overrides=asked, device="cpu", quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow.n_blocks": 2}, "flow.n_blocks is 2 with the method 'diffusion'"),
        ({"flow.coupling": "shuffled"}, "flow.coupling is 'shuffled' with the method 'diffusion'"),
        ({"flow.interpolant": "trigonometric"}, "flow.interpolant is 'trigonometric' with the"),
        ({"normalization.action": "standard"}, "normalization.action is 'standard' with flow"),
        ({"sampler.nfe": 101}, "101 steps are more than the 100 of training"),
        ({"sampler.nfe": 2, "sampler.times": [0.5]}, "sampler.times are .* mean nothing to steps"),
        (
            {"flow.method": {"name": "diffusion", "prediction": "noise"}},
            "flow.method.prediction",
        ),
    ],
)
def test_what_means_nothing_is_refused(
    make_config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**DIFFUSION, **changes})


def test_as_many_steps_as_in_training_with_guidance(make_config: MakeConfig) -> None:
    guided = {"flow.drop_obs": 0.1, "sampler.guidance": 2.0, "sampler.nfe": 200}
    assert make_config({**DIFFUSION, **guided}).sampler.nfe == 200


@pytest.mark.parametrize("section", ["sampler", "push_forward"])
def test_its_solvers_are_refused_for_other_methods(make_config: MakeConfig, section: str) -> None:
    with pytest.raises(InputError, match=rf"{section}\.solver: solver ddpm: only flow.method="):
        make_config({f"{section}.solver": "ddpm"})


def test_chunks_of_any_size_where_nothing_is_cut_off(make_config: MakeConfig) -> None:
    unclipped = {"name": "diffusion", "clip_sample": False}
    config = make_config(
        {**DIFFUSION, "flow.method": unclipped, "normalization.action": "standard"}
    )
    assert config.normalization.action == "standard"
