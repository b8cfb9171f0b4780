"""A robot whose numbers lie far from zero gets the policy of one whose numbers do not.

The demonstrations are the same twice, but for an offset of observations and actions beside which
float32 has two or three values left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy import load_policy
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.policy import Policy
from lfm_policy.training import train
from lfm_policy.training.rows.data import load_datasets
from lfm_runtime.policy.chunk_policy import ChunkPolicy

pytestmark = pytest.mark.slow

OFFSETS = {"position": np.array([4.2e6, 5e5, 0.0]), "action": np.array([-4.2e6, 3e6])}
LENGTHS = (11, 14, 9, 16, 12)
# Powers of two, so that adding an offset rounds nothing away: both data sets are the same data.
GRAIN = 2.0**-20


def demonstrations(path: Path, *, far: bool, dtype: type = np.float64) -> Path:
    """Write episodes whose actions follow from the observations, spans below 1."""
    generator = np.random.default_rng(0)
    steps = sum(LENGTHS)
    position = 0.02 * np.cumsum(generator.normal(size=(steps, 3)), axis=0)
    action = position @ generator.normal(size=(3, 2))
    arrays = {
        key: np.round(array / GRAIN) * GRAIN + (OFFSETS[key] if far else 0)
        for key, array in {"action": action, "position": position}.items()
    }
    arrays = {key: array.astype(dtype) for key, array in arrays.items()}
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(LENGTHS)))
    return path


Pair = tuple[Policy, Policy]


@pytest.fixture(scope="module")
def pair(
    make_config: Callable[..., ExperimentConfig], tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """Return the policy of the demonstrations near zero, and that of those far away."""
    policies = []
    for far in (False, True):
        folder = tmp_path_factory.mktemp("far" if far else "near")
        path = demonstrations(folder / "demonstrations.zarr", far=far)
        config = make_config({"dataset.path": str(path), "policy.max_prefix": 2})
        train(config, folder / "run", device="cpu", quiet=True)
        policies.append(load_policy(folder / "run"))
    return policies[0], policies[1]


@pytest.fixture(scope="module")
def exports(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return what both policies were exported to."""
    pytest.importorskip("onnxscript")
    from lfm_policy.exporting import export_policy

    folder = tmp_path_factory.mktemp("exports")
    names = ("near", "far")
    return [export_policy(p, folder / name) for p, name in zip(pair, names, strict=True)]


def compare(near: ChunkPolicy, far: ChunkPolicy, **options: Any) -> None:
    """Step by step and as a batch, the far policy does what the near one does, elsewhere."""
    assert far.spec.float64_keys == ("action", "position") and near.spec.float64_keys == ()
    assert far.spec.dtype("position") == "float64"
    generator = np.random.default_rng(1)
    frames = 0.05 * generator.normal(size=(6, 3))
    for policy in (near, far):
        policy.sample_seed(3)
        policy.reset()
    for frame in frames:
        here = near.select_action({"position": frame})
        there = far.select_action({"position": frame + OFFSETS["position"]})
        assert here.dtype == np.float32 and there.dtype == np.float64
        np.testing.assert_allclose(there - OFFSETS["action"], here, atol=2e-5)
        assert np.abs(here).max() > 1e-4  # it does move
    batch = frames.reshape(3, 2, 3)
    prefix = generator.uniform(-0.1, 0.1, (3, 1, 2))
    chunks = []
    for policy, moved in ((near, False), (far, True)):
        policy.sample_seed(4)
        given = prefix + OFFSETS["action"] if moved else prefix
        obs = batch + OFFSETS["position"] if moved else batch
        chunks.append(np.asarray(policy.predict_action_chunk({"position": obs}, prefix=given)))  # type: ignore[call-arg]
        assert (chunks[-1][:, 0] == given[:, 0].astype(chunks[-1].dtype)).all()
    np.testing.assert_allclose(chunks[1] - OFFSETS["action"], chunks[0], atol=2e-5)
    low, high = far.training_range("position")
    assert low.dtype == np.float64 and ((high - low)[:2] < 1).all() and (high > low).all()
    with pytest.raises(InputError, match="'position' has dtype float32, expected float64"):
        far.select_action({"position": np.zeros(3, np.float32)})


def test_in_torch(pair: Pair) -> None:
    compare(*pair)


def test_exported(exports: list[Path]) -> None:
    from lfm_runtime import OnnxPolicy

    near, far = (OnnxPolicy(folder) for folder in exports)
    compare(near, far)
    inputs = far.description.to_dict()["graph"]
    assert inputs["inputs"]["position"]["dtype"] == inputs["inputs"]["prefix"]["dtype"] == "float64"
    assert inputs["outputs"]["action"]["dtype"] == "float64"


def test_an_export_of_another_policy_is_noticed_far_from_zero_too(
    pair: Pair, exports: list[Path]
) -> None:
    import lfm_policy.exporting as export
    from lfm_policy.evaluation.exported import ExportedPolicy

    differences = []
    for policy, folder in zip(pair, exports, strict=True):
        exported = ExportedPolicy(folder)
        observations = export.real_observations(policy, 8)
        assert export.compare_chunks(policy, exported, observations, n=8).within_tolerance
        policy.set_sampler(noise_scale=0.599)
        try:
            differences.append(export.compare_chunks(policy, exported, observations, n=8))
        finally:
            policy.set_sampler()
    assert not any(difference.within_tolerance for difference in differences)


def test_what_a_file_has_made_constant_is_refused_or_said(
    make_config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    path = demonstrations(tmp_path / "lost.zarr", far=True, dtype=np.float32)
    said = r"lost\.zarr: action\[0, 1\] was stored in float32.*action\[0\] takes \d values.*float64"
    with pytest.raises(InputError, match=said):
        load_datasets(make_config({"dataset.path": str(path)}))
    arrays = {
        "action": np.random.default_rng(0).normal(size=(sum(LENGTHS), 2)),
        "position": OFFSETS["position"] + np.linspace(0, 0.5, sum(LENGTHS))[:, None],
    }
    buffer = ReplayBuffer(
        {key: array.astype(np.float32) for key, array in arrays.items()}, np.cumsum(LENGTHS)
    )
    write_zarr(tmp_path / "coarse.zarr", buffer)
    config = make_config({"dataset.path": str(tmp_path / "coarse.zarr")})
    with pytest.warns(UserWarning, match=r"position\[0, 1\] was stored in float32.*takes 2 values"):
        load_datasets(config)
