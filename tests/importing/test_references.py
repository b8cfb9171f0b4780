"""Imported policies do what the frameworks' own code did with the same files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from .conftest import Reference, given_noise

Get = Callable[[str], Reference]

FILES = [
    "lerobot_061_keypoints_ddpm",
    "lerobot_061_keypoints_ddim_sample",
    "lerobot_033_keypoints_ddpm",
    "lerobot_061_image_gn_narrow",
    "lerobot_061_image_resnet18_recipe",
    "diffusion_policy_lowdim/latest.ckpt",
    "robomimic_diffusion_policy/model.pth",
]
every_file = pytest.mark.parametrize("path", FILES)


def largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max())


@every_file
def test_observations_are_scaled_alike(path: str, reference: Get) -> None:
    found = reference(path)
    numbers = {key: v for key, v in found.batch.items() if v.dtype != np.uint8}
    tensors = {key: torch.from_numpy(value) for key, value in numbers.items()}
    for key, value in found.policy.pipeline.normalized(tensors).items():
        assert largest(value, found.tensor(f"normalized/{key}")) < 1e-5


@every_file
def test_the_network_answers_alike(path: str, reference: Get) -> None:
    found = reference(path)
    cond = found.policy.encode(found.batch)
    network = found.policy.model.blocks[0]
    for case in ("unet0", "unet1"):
        time = (found.tensor(f"{case}_t") + 1).float() / 100
        answer = network(found.tensor(f"{case}_x"), time, cond)
        assert largest(answer, found.tensor(f"{case}_out")) < 1e-5


@every_file
def test_chunks_are_the_same(path: str, reference: Get) -> None:
    found = reference(path)
    policy, noise = found.policy, found.tensor("noise")
    first = policy.n_obs_steps - 1
    executed = slice(first, first + policy.n_action_steps)
    with given_noise(found.numbers["variance_noise"]), torch.inference_mode():
        cond = policy.encode(found.batch)
        chunk = policy.pipeline.sample_chain(noise, cond).x[:, executed]
    normalized = "chunk_normalized"
    if normalized in found.numbers:
        assert largest(chunk, found.tensor(normalized)) < 1e-4
    with given_noise(found.numbers["variance_noise"]):
        raw = policy.predict_action_chunk(found.batch, noise=noise)
    scale = policy.normalizer["action"].scale
    assert largest(raw * scale, found.tensor("chunk") * scale) < 1e-4


@pytest.mark.parametrize("path", FILES[:2])
def test_episodes_are_the_same_step_by_step(
    path: str, reference: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = reference(path)
    policy = found.policy
    noises = iter(found.tensor("rollout/noise"))
    monkeypatch.setattr(policy, "_noise", lambda noise, n_rows: next(noises))
    variance = found.numbers["rollout/variance_noise"][:, :-1]  # none is drawn at the last step
    scale = policy.normalizer["action"].scale.numpy()
    policy.reset()
    with given_noise(variance.reshape(-1, *variance.shape[2:])):
        for step, expected in enumerate(found.numbers["rollout/action"]):
            action = policy.select_action({k: v[step] for k, v in found.rollout.items()})
            assert np.abs((action - expected) * scale).max() < 1e-4, step


def test_the_actions_of_robomimic(reference: Get) -> None:
    found = reference("robomimic_diffusion_policy/model.pth")
    batch = {key: value[:1] for key, value in found.batch.items()}
    with given_noise(found.numbers["rollout/variance_noise"]):
        actions = found.policy.predict_action_chunk(batch, noise=found.tensor("rollout/noise"))
    scale = found.policy.normalizer["action"].scale
    assert largest(actions[0] * scale, found.tensor("rollout/action") * scale) < 1e-4


def test_the_average_of_the_weights_is_what_is_used(reference: Get) -> None:
    found = reference("diffusion_policy_lowdim/latest.ckpt")
    other = found.numbers["chunk_model_not_ema"]
    assert np.abs(found.numbers["chunk"] - other).max() > 1
