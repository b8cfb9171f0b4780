"""What the package carries: small, loadable by name, and what its README says it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lfm_policy import load_policy
from lfm_policy.assets import POLICIES, bundled_demonstrations, bundled_policy
from lfm_policy.config import load_config
from lfm_policy.evaluation import RolloutConfig, rollout
from lfm_policy.policy import find_checkpoint, read_header

pytestmark = [pytest.mark.simulator, pytest.mark.slow]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_sizes() -> None:
    assert size(bundled_demonstrations()) < 3_000_000
    for name in POLICIES:
        assert size(bundled_policy(name)) < 6_000_000


@pytest.mark.parametrize("name", POLICIES)
def test_policies_load_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # nothing by that name is here
    policy = load_policy(name)
    header = read_header(name)
    assert find_checkpoint(name) == header.folder
    weights = load_file(header.folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert header.complete
    assert not Path(header.config.dataset.path).is_absolute()  # type: ignore[attr-defined]
    if name in ("pusht-state", "pusht-image"):
        assert policy.nfe == policy.model.n_blocks == 2
        assert header.config.distill.method
    else:
        assert not header.config.distill.method
    policy.select_action(policy.fake_obs(seed=0))


def test_the_readme_says_what_is_there() -> None:
    readme = (bundled_demonstrations().parent / "README.md").read_text()
    data = load_config("pusht/lfm", [f"dataset.path={bundled_demonstrations()}"]).dataset.load()
    assert f"{data.n_episodes} successful rollouts, {data.n_steps:,} steps" in readme
    for name in POLICIES:
        parameters = load_policy(name).model.parameter_counts()["total"]
        assert f"`{name}`" in readme and f"{parameters:,} parameters" in readme
    action = data.arrays["action"]
    assert np.isfinite(action).all() and action.min() > -50 and action.max() < 562


def test_demonstrations_can_be_done_again() -> None:
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    import gymnasium as gym
    import lfm_envs  # noqa: F401  (registers the environment)
    import zarr

    root = zarr.open_group(str(bundled_demonstrations()), mode="r")
    ends = np.asarray(root["meta/episode_ends"])[:4]
    env = gym.make("lfm/PushT-v0")
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        states, actions = (
            np.asarray(root[f"data/{key}"][begin:end]) for key in ("state", "action")
        )
        env.reset(options={"state": states[0]})
        # What is stored is float32, and contacts amplify its rounding: the first 20 steps, to a
        # pixel.
        for state, action in zip(states[:20], actions[:20], strict=True):
            np.testing.assert_allclose(env.unwrapped.state[:4], state[:4], atol=1.0)  # type: ignore[attr-defined]
            env.step(action)
    env.close()


def test_the_student_acts_as_in_the_results() -> None:
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    policy = load_policy("pusht-state")
    config = RolloutConfig(policy.config.env.id, seed_start=200_000)
    results = rollout(policy, config, range(24))
    # Far below the 0.9 of docs/results/, and far above what a damaged policy reaches (0.2).
    assert np.mean([result.max_reward for result in results]) > 0.75
