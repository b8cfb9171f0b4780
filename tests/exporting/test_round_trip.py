"""Every kind of policy computes the same in ONNX Runtime as in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy.policy import Policy
from lfm_runtime import OnnxPolicy

from .cases import CASES
from .conftest import build_policy, random_batch

pytestmark = pytest.mark.slow

pytest.importorskip("onnxscript")


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Policy, OnnxPolicy]:
    from lfm_policy.exporting import export_policy

    policy = build_policy(**request.param)
    folder = export_policy(policy, tmp_path_factory.mktemp("case") / "exported")
    return policy, OnnxPolicy(folder)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 5])
def test_chunks_of_any_batch(pair: tuple[Policy, OnnxPolicy], n_rows: int) -> None:
    policy, exported = pair
    if not policy.spec.obs_shapes:
        n_rows = 1
    batch = random_batch(policy, n_rows, seed=3)
    noise = np.random.default_rng(n_rows).standard_normal((n_rows, *policy.chunk_shape))
    lengths = range(policy.max_prefix + 1)
    for length in lengths:
        prefix = np.full((n_rows, length, 3), 150.25)
        options = {"prefix": prefix} if length else {}
        expected = policy.sample(batch, noise=torch.from_numpy(noise), **options)
        found = exported.sample(batch, noise=noise, **options)
        assert found.chunk.dtype == np.float32 and found.nfe == expected.nfe
        scale = max(1.0, float(expected.chunk.abs().max())) if n_rows else 1.0
        np.testing.assert_allclose(found.chunk, expected.chunk, rtol=0, atol=1e-5 * scale)
        first = policy.n_obs_steps - 1
        assert (found.chunk[:, first : first + length] == 150.25).all()
        actions = exported.predict_action_chunk(batch, noise=noise, **options)
        np.testing.assert_array_equal(actions, found.chunk[:, first : first + 3])


def test_step_by_step_with_the_same_seed(pair: tuple[Policy, OnnxPolicy]) -> None:
    policy, exported = pair
    actions = []
    for subject in (policy, exported):
        subject.sample_seed(5, episode=2)
        subject.reset()
        actions.append([subject.select_action(policy.fake_obs(step)) for step in range(8)])
    np.testing.assert_allclose(actions[1], actions[0], rtol=1e-4, atol=1e-2)
    assert actions[1][0].shape == (3,)


def test_what_a_caller_is_told(pair: tuple[Policy, OnnxPolicy]) -> None:
    policy, exported = pair
    told = exported.metadata
    assert told == {**policy.metadata, "precision": "fp32"}
    assert exported.max_prefix == policy.max_prefix
    for seed in (0, 1):
        fake = exported.fake_obs(seed)
        for key, value in policy.fake_obs(seed).items():
            np.testing.assert_array_equal(fake[key], value)
            assert fake[key].dtype == value.dtype


def test_two_threads_give_the_same(exported: tuple[Policy, Path]) -> None:
    policy, folder = exported
    batch = random_batch(policy, 3)
    noise = np.zeros((3, *policy.chunk_shape), np.float32)
    one, two = (OnnxPolicy(folder, threads=n).sample(batch, noise=noise).chunk for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-5)
