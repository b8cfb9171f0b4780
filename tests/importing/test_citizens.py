"""Imported policies are sampled, exported and inspected as all others are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy.exporting import export_policy
from lfm_policy.policy import load_policy
from lfm_runtime import OnnxPolicy

from .conftest import Reference

pytest.importorskip("onnxscript")
Get = Callable[[str], Reference]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "solver", "nfe"),
    [
        ("lerobot_061_keypoints_ddim_sample", "ddim", 10),
        ("lerobot_061_keypoints_ddpm", "dpmsolver++", 3),
        ("lerobot_061_image_gn_narrow", "ddim", 2),
        ("robomimic_diffusion_policy/model.pth", "euler", 4),
    ],
)
def test_exports_do_the_same(
    path: str, solver: str, nfe: int, reference: Get, tmp_path: Path
) -> None:
    found = reference(path)
    policy = load_policy(found.policy.info["checkpoint"])
    policy.set_sampler(solver=solver, nfe=nfe)
    export_policy(policy, tmp_path / "exported")
    exported = OnnxPolicy(tmp_path / "exported")
    policy.sample_seed(3)
    exported.sample_seed(3)
    batch = found.batch
    expected = policy.predict_action_chunk(batch).numpy()
    actions = exported.predict_action_chunk(batch)
    scale = policy.normalizer["action"].scale.numpy()
    assert np.abs((actions - expected) * scale).max() < 1e-4


def test_fewer_steps_lead_to_nearly_the_same(reference: Get) -> None:
    found = reference("lerobot_061_keypoints_ddim_sample")
    policy = load_policy(found.policy.info["checkpoint"])
    noise = found.tensor("noise")
    scale = policy.normalizer["action"].scale
    chunks = {}
    for solver, nfe in (("ddim", 100), ("ddim", 50), ("dpmsolver++", 50), ("midpoint", 100)):
        policy.set_sampler(solver=solver, nfe=nfe)
        chunks[solver, nfe] = policy.predict_action_chunk(found.batch, noise=noise) * scale
    exact = chunks["ddim", 100]
    for chunk in chunks.values():
        assert float((chunk - exact).abs().mean()) < 0.1


def test_the_checkpoint_is_saved_again(reference: Get, tmp_path: Path) -> None:
    found = reference("lerobot_061_keypoints_ddim_sample")
    policy = load_policy(found.policy.info["checkpoint"])
    again = load_policy(policy.save(tmp_path / "again"))
    assert again.info["imported"]["from"] == "LeRobot"
    noise = found.tensor("noise")
    assert torch.equal(
        again.predict_action_chunk(found.batch, noise=noise),
        policy.predict_action_chunk(found.batch, noise=noise),
    )
