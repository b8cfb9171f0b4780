"""The comparison with torch notices differences, and says what it compared on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig, measure_latency, rollout
from lfm_policy.evaluation.exported import ExportedPolicy
from lfm_policy.policy import Policy, write_checkpoint

from .conftest import build_policy

pytest.importorskip("onnxscript")
import lfm_policy.exporting as export

pytestmark = [pytest.mark.simulator, pytest.mark.slow]


def test_an_export_is_what_it_was_made_of(exported: tuple[Policy, Path]) -> None:
    policy, folder = exported
    observations = export.real_observations(policy, 40)
    # No demonstrations and no environment: what the normaliser knows.
    assert observations.source.startswith("random numbers in the range of the demonstrations (")
    assert {key: value.shape for key, value in observations.batch.items()} == {
        "agent_pos": (40, 2, 2),
        "pose": (40, 2, 4),
    }
    difference = export.compare_chunks(policy, ExportedPolicy(folder), observations, n=40)
    assert difference.n == 40 and difference.within_tolerance
    assert 0 <= difference.mean <= difference.largest <= export.TOLERANCE


def test_another_policy_is_not(exported: tuple[Policy, Path]) -> None:
    policy, folder = exported
    observations = export.real_observations(policy, 8)
    policy.set_sampler(noise_scale=0.599)
    try:
        difference = export.compare_chunks(policy, ExportedPolicy(folder), observations, n=8)
    finally:
        policy.set_sampler()
    assert not difference.within_tolerance


def test_demonstrations_are_used_where_they_can_be_read(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(str(tmp_path / "data.zarr"), mode="w", zarr_format=2)
    rows = np.arange(60, dtype=np.float32)
    root.create_array("data/agent_pos", data=np.stack([rows, rows], axis=1))
    root.create_array("data/pose", data=np.stack([rows] * 4, axis=1))
    root.create_array("data/action", data=np.stack([rows] * 3, axis=1))
    root.create_array("meta/episode_ends", data=np.array([20, 60]))
    policy = build_policy(dataset={"name": "zarr", "obs_keys": ["agent_pos", "pose"]})
    observations = export.real_observations(policy, 30, dataset=str(tmp_path / "data.zarr"))
    assert observations.source == f"windows of {tmp_path / 'data.zarr'}"
    pose = observations.batch["pose"]
    assert pose.shape == (30, 2, 4)
    # One step after the other, or the first one twice.
    assert set(np.unique(pose[:, 1] - pose[:, 0])) <= {0.0, 1.0}
    with pytest.raises(InputError, match="nowhere"):
        export.real_observations(policy, 3, dataset=str(tmp_path / "nowhere"))


def test_an_exported_policy_in_rollouts(tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht")
    env = {"id": "lfm/PushT-v0", "max_episode_steps": 20}
    policy = _pusht_policy(env)
    folder = export.export_policy(policy, tmp_path / "out")
    exported = ExportedPolicy(folder)
    assert export.real_observations(policy, 5).source == "rollouts in lfm/PushT-v0"
    config = RolloutConfig(env_id=env["id"], max_episode_steps=20, num_envs=2)
    before, after = (rollout(subject, config, range(2)) for subject in (policy, exported))
    for a, b in zip(before, after, strict=True):
        assert (a.steps, a.chunks, a.nfe) == (b.steps, b.chunks, b.nfe)
        assert a.max_reward == pytest.approx(b.max_reward, abs=0.01)
    change = export.compare_success(policy, exported, n_episodes=2, num_envs=2)
    assert (change.n, change.policy, change.export, change.p_value) == (2, 0, 0, 1.0)
    latency = measure_latency(exported, repeats=3)
    assert latency["device"] == "cpu" and latency["median_ms"] > 0
    exported.set_sampler(solver="euler", nfe=2)
    with pytest.raises(InputError, match="nfe is 3, but it was exported with 2"):
        exported.set_sampler(nfe=3)

    # The command line takes it where it takes checkpoints.
    out = tmp_path / "eval"
    arguments = ["eval", str(folder), "--episodes", "2", "--num-envs", "2", "--quiet"]
    assert main([*arguments, "--output", str(out)]) == 0
    report = json.loads((out / "eval.json").read_text())
    assert report["cells"][0]["nfe"] == 2
    assert [episode["steps"] for episode in report["cells"][0]["episodes"]] == [20, 20]
    assert main([*arguments, "--nfe", "4"]) == 2


def _pusht_policy(env: dict) -> Policy:
    shapes = {"agent_pos": (2,), "block_pose": (4,), "keypoints": (16,)}
    return build_policy(action_dim=2, obs_shapes=shapes, env=env)


@pytest.fixture
def checkpoint(tmp_path: Path, exported: tuple[Policy, Path]) -> Path:
    policy = exported[0]
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    record = {
        "steps": 1,
        "train_seconds": 1.0,
        "push_seconds": 0.0,
        "loss": 0.5,
        "validation_loss": None,
    }
    write_checkpoint(
        folder,
        config=policy.config,
        spec=policy.spec,
        model_state=policy.model.state_dict(),
        normalizer=policy.normalizer,
        training={
            "complete": True,
            "steps": 2,
            "block_steps": [1, 1],
            "blocks": [record, record],
            "train_seconds": 2.0,
            "push_seconds": 0.0,
            "parameters": policy.parameter_counts(),
        },
    )
    return folder


def test_the_command(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    arguments = ["export", str(checkpoint), str(out), "--nfe", "2", "--check"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["nfe"] == 2 and report["difference"]["n"] == 100
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err

    monkeypatch.setattr("lfm_policy.exporting.check.TOLERANCE", -1.0)
    other = tmp_path / "other"
    assert main(["export", str(checkpoint), str(other), "--nfe", "2", "--check"]) == 3
    assert "differs from PyTorch" in capsys.readouterr().err
    assert not other.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nfe", "1"], "nfe is 1, expected a multiple"),
        (["--solver", "dopri5"], "chooses its steps itself"),
        (["--solver", "rk9"], "solver is 'rk9', expected one of euler"),
        (["--noise-scale", "-1"], "noise_scale is -1.0"),
    ],
)
def test_bad_arguments(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(["export", str(checkpoint), str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
