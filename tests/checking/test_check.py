"""A check from a policy's name to its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy import InputError, load_policy
from lfm_policy.checking import PolicyCheck, check, rules
from lfm_policy.config import config_from_dict, load_config
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import EvaluationError
from lfm_policy.training import train


@pytest.fixture(scope="module")
def found(small_run: Path) -> PolicyCheck:
    return check(small_run, samples=3, device="cpu")


def test_a_run(found: PolicyCheck, small_run: Path) -> None:
    loop = found.open_loop
    assert found.n_episodes == 1 and found.samples.shape[0] == 3
    assert set(loop.baselines) == {"repeat", "mean"} and loop.training is not None
    assert [block.block for block in found.blocks] == [1, 2]
    assert {entry.key for entry in found.shuffled} == {"agent_pos", "pose"}
    # Eight steps on random numbers teach nothing.
    messages = [(finding.kind, finding.message) for finding in found.findings]
    kinds = {kind for kind, _ in messages}
    assert {"few_episodes", "not_better_than_baseline"} <= kinds
    assert all(kind in rules.SYMPTOMS or m in found.verdict for kind, m in messages)


def test_errors_are_those_of_the_policy_itself(found: PolicyCheck, small_run: Path) -> None:
    policy = load_policy(small_run)
    instants = found.instants
    noise = np.random.default_rng(0).standard_normal((3, *found.samples.shape[1:]), np.float32)
    batch = instants.observations(np.arange(len(instants)), tuple(policy.spec.obs_shapes))
    for sample, given in zip(found.samples, noise, strict=True):
        chunk = policy.sample(batch, noise=torch.from_numpy(given)).chunk.numpy()
        np.testing.assert_allclose(sample, chunk, rtol=1e-5, atol=1e-3)
    errors = np.abs(found.samples.mean(0) - instants.demonstrated)
    rows = instants.executed & instants.started[:, None]
    assert found.open_loop.mean_of_samples.per_dim == pytest.approx(errors[rows].mean(0))


def test_same_seed_same_result(found: PolicyCheck, small_run: Path) -> None:
    again = check(load_policy(small_run), samples=3)
    same = found.to_dict() | {"name": "the policy"}
    assert json.dumps(again.to_dict()) == json.dumps(same)
    other = check(small_run, samples=3, seed=1, device="cpu")
    assert other.open_loop.sample.mean != found.open_loop.sample.mean


def test_schema(found: PolicyCheck) -> None:
    report = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (report["format"], report["format_version"]) == ("lfm-policy-check", 1)
    assert set(report) == {
        *("format", "format_version", "package_version", "name", "policy", "seed", "data"),
        *("action", "open_loop", "spread", "joins", "outside_range", "observations", "blocks"),
        *("findings", "verdict"),
    }
    assert set(report["open_loop"]) == {
        *("samples", "instants", "errors", "training", "sample_minus_baseline"),
        "strongest_baseline",
    }
    assert set(report["open_loop"]["errors"]) == {
        *("sample", "mean_of_samples", "best_of_samples", "baseline_repeat", "baseline_mean"),
    }
    assert set(report["open_loop"]["errors"]["sample"]) == {
        *("normalized", "interval", "normalized_over_horizon", "per_episode"),
        *("per_dim", "per_step", "per_step_dim"),
    }
    assert set(report["blocks"][0]) == {
        *("block", "held_out", "training", "ignoring_observations", "own_chunks", "recorded"),
    }


def test_sampler(small_run: Path) -> None:
    still = check(small_run, samples=2, noise_scale=0.0, nfe=2, device="cpu")
    assert still.spread.share == 0 and still.deterministic
    assert still.policy["nfe"] == 2 and still.policy["noise_scale"] == 0
    assert "collapsed" not in {finding.kind for finding in still.findings}


def test_demonstrations_in_memory(small_run: Path) -> None:
    policy = load_policy(small_run)
    buffer = policy.config.dataset.load()
    assert check(policy, data=buffer, samples=2).demonstrations.kind == "held-out"
    fewer = check(policy, data=buffer.select_episodes([1, 2, 3]), samples=2)
    assert fewer.demonstrations.kind == "other" and fewer.n_episodes == 3


def test_bad_numbers(small_run: Path) -> None:
    for options, message in (
        ({"samples": 1}, "samples is 1, expected at least 2"),
        ({"episodes": 0}, "episodes is 0"),
        ({"nfe": 1}, "nfe is 1"),
    ):
        with pytest.raises(InputError, match=message):
            check(small_run, device="cpu", **options)
    with pytest.raises(InputError, match="set_sampler"):
        check(load_policy(small_run), nfe=4)
    with pytest.raises(InputError, match="served policy"):
        check("ws://localhost:1")


@pytest.mark.slow
def test_policy_that_takes_prefixes(small_config: Path, tmp_path: Path) -> None:
    config = load_config(str(small_config), ["policy.max_prefix=2"])
    train(config, tmp_path / "run", device="cpu", quiet=True)
    found = check(tmp_path / "run", samples=2, device="cpu")
    policy = load_policy(tmp_path / "run")
    batch = found.instants.observations(np.arange(1), tuple(policy.spec.obs_shapes))
    noise = np.random.default_rng(0).standard_normal((2, *found.samples.shape[1:]), np.float32)
    chunk = policy.sample(batch, noise=torch.from_numpy(noise[0, :1])).chunk.numpy()
    np.testing.assert_allclose(found.samples[0, :1], chunk, rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_cameras_are_looked_at_as_in_training(tmp_path: Path) -> None:
    """Frames come from the cache of the run, made smaller; the policy itself gets large ones."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 40, 60, 3), dtype=np.uint8)
    arrays = {
        "action": images[:, :2, 0, 0].astype(np.float32),
        "camera": images,
        "joints": generator.normal(size=(60, 3)).astype(np.float32),
    }
    write_zarr(tmp_path / "arm.zarr", ReplayBuffer(arrays, np.arange(1, 6) * 12))
    options = {
        "dataset": {
            "name": "zarr",
            "path": str(tmp_path / "arm.zarr"),
            "obs_keys": ["camera", "joints"],
            "validation_ratio": 0.4,
        },
        "policy": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3},
        "encoder": {
            "name": "cameras",
            "image": {"name": "compact", "width": 4, "resize": [20, 32], "crop": [16, 24]},
        },
        "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 4},
        "flow": {"n_blocks": 1, "step_sizes": []},
        "training": {
            "total_steps": 2, "batch_size": 4, "encoder": "block1", "encoder_steps": 0,
        },
    }  # fmt: skip
    train(config_from_dict(options, "test"), tmp_path / "runs" / "arm", device="cpu", quiet=True)
    cached = sorted((tmp_path / "runs" / "image-cache").iterdir())
    found = check(tmp_path / "runs" / "arm" / "checkpoints" / "final", samples=2, device="cpu")
    assert sorted((tmp_path / "runs" / "image-cache").iterdir()) == cached
    assert found.instants.buffer.arrays["camera"].shape[1:] == (20, 32, 3)
    assert found.cameras == ("camera",) and found.demonstrations.kind == "held-out"
    policy = load_policy(tmp_path / "runs" / "arm")
    batch = {key: arrays[key][found.instants.obs_steps] for key in policy.spec.obs_shapes}
    noise = np.random.default_rng(0).standard_normal((2, *found.samples.shape[1:]), np.float32)
    chunk = policy.sample(batch, noise=torch.from_numpy(noise[0])).chunk.numpy()
    np.testing.assert_allclose(found.samples[0], chunk, rtol=1e-4, atol=0.01)


def test_actions_that_are_not_finite(small_run: Path) -> None:
    policy = load_policy(small_run)
    with torch.no_grad():
        for parameter in policy.model.blocks.parameters():
            parameter.fill_(1e30)
    with pytest.raises(EvaluationError, match="the policy cannot be checked: .* is not finite"):
        check(policy)


@pytest.mark.slow
def test_seven_joints_of_deltas(small_config: Path, tmp_path: Path) -> None:
    """More dimensions than are drawn, one that never moves, actions that are deltas."""
    generator = np.random.default_rng(0)
    action = generator.normal(size=(400, 7)).astype(np.float32)
    action[:, 3] = 0
    arrays = {"action": action, "agent_pos": action[:, :2].copy(), "pose": action[:, :4] + 1}
    write_zarr(tmp_path / "arm.zarr", ReplayBuffer(arrays, np.arange(1, 11) * 40))
    config = load_config(str(small_config), [f"dataset.path={tmp_path / 'arm.zarr'}"])
    train(config, tmp_path / "run", device="cpu", quiet=True)
    found = check(tmp_path / "run", samples=2, device="cpu")
    assert "zero" in found.open_loop.baselines
    assert 3 not in {d for f in found.findings for d in f.facts.get("dimensions", [])}
    found.plot(tmp_path / "check.png")
    assert (tmp_path / "check.png").read_bytes().startswith(b"\x89PNG")
    found.print()


def test_tables_fit_80_columns(
    found: PolicyCheck, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    wide = replace(found.open_loop.sample, per_dim=found.open_loop.sample.per_dim * 12345)
    replace(found, open_loop=replace(found.open_loop, sample=wide)).print()
    out = capsys.readouterr().out
    assert "…" not in out and "policy minus this" in out and "ignoring obs." in out


@pytest.mark.slow
def test_bundled_policy_and_demonstrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the demonstrations of its training are not
    found = check("pusht-state", episodes=8, samples=4, device="cpu")
    assert found.demonstrations.kind == "other" and found.student
    assert "bundled demonstrations" in found.demonstrations.remark
    assert found.open_loop.sample.mean < 0.5 * found.open_loop.baselines["repeat"].mean
    assert found.findings == []
    with pytest.raises(InputError, match="--data PATH"):
        check("pusht-image", device="cpu")


@pytest.mark.slow
def test_export(small_export: Path, small_zarr: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an export does not tell where its demonstrations are"):
        check(small_export)
    found = check(small_export, data=small_zarr)
    assert found.demonstrations.kind == "unknown" and found.blocks == []
    assert len(found.samples) == 16 and found.n_episodes == 6
    assert found.to_dict()["policy"]["exported"]
    found.plot(tmp_path / "check.png")
