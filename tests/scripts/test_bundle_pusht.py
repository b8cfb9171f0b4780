"""What the package carries: demonstrations of a policy, and copies in half precision."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lfm_policy import InputError, load_policy
from lfm_policy.config import config_to_dict
from lfm_policy.evaluation import EpisodeResult, RolloutConfig
from lfm_policy.policy import find_checkpoint, read_header
from lfm_policy.policy.checkpoint import MODEL_FILE


@pytest.fixture
def bundling(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts" / "tools"))
    import bundle_pusht

    monkeypatch.delitem(sys.modules, "bundle_pusht")
    return bundle_pusht


def test_a_copy_acts_almost_as_the_original(bundling: Any, small_run: Path, tmp_path: Path) -> None:
    copy = bundling.half_precision_copy(small_run, tmp_path / "copy", dataset_path="elsewhere.zarr")
    original = find_checkpoint(small_run)
    assert all(t.dtype == torch.float16 for t in load_file(copy / MODEL_FILE).values())
    sizes = [(folder / MODEL_FILE).stat().st_size for folder in (copy, original)]
    assert sizes[0] < 0.75 * sizes[1]
    header, parent = read_header(copy), read_header(original)
    options, originals = config_to_dict(header.config), config_to_dict(parent.config)
    assert options["dataset"].pop("path") == "elsewhere.zarr"
    assert originals["dataset"].pop("path")
    assert options == originals
    assert (header.spec, header.training) == (parent.spec, parent.training)
    a, b = load_policy(copy), load_policy(original)
    assert all(p.dtype == torch.float32 for p in a.model.parameters())
    batch = {key: value[None, None].repeat(2, 1) for key, value in a.fake_obs(seed=1).items()}
    noise = torch.randn(1, *a.model.chunk_shape)
    chunks = [policy.sample(batch, noise=noise).chunk for policy in (a, b)]
    scale = b.normalizer["action"].max - b.normalizer["action"].min
    assert ((chunks[0] - chunks[1]).abs() / scale).max() < 0.01


def test_weights_beyond_half_precision_are_refused(
    bundling: Any, small_run: Path, tmp_path: Path
) -> None:
    from lfm_policy.policy.checkpoint import read_model_state, read_normalizer, write_checkpoint

    header = read_header(small_run)
    state = read_model_state(header)
    next(iter(state.values())).fill_(1e6)
    large = tmp_path / "large"
    large.mkdir()
    write_checkpoint(
        large,
        config=header.config,
        spec=header.spec,
        model_state=state,
        normalizer=read_normalizer(header),
        training=header.training,
    )
    with pytest.raises(InputError, match="numbers beyond 65504"):
        bundling.half_precision_copy(large, tmp_path / "copy", dataset_path="")
    assert not (tmp_path / "copy").exists()


@pytest.fixture
def every_second_succeeds(bundling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bundling.rollout

    def decided(*args: Any, **options: Any) -> list[EpisodeResult]:
        results: Sequence[EpisodeResult] = whole(*args, **options)
        return [replace(result, success=result.episode % 2 == 1) for result in results]

    monkeypatch.setattr(bundling, "rollout", decided)


@pytest.mark.simulator
def test_recorded_actions_lead_to_the_recorded_states(
    bundling: Any, every_second_succeeds: None
) -> None:
    gym = pytest.importorskip("gymnasium")
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    config = RolloutConfig("lfm/PushT-v0", seed_start=300_000, max_episode_steps=21, num_envs=1)
    policy = load_policy("pusht-state")
    buffer, seeds = bundling.successes(policy, config, 2, 6)
    assert seeds == [300_001, 300_003]
    assert list(buffer.episode_ends) == [21, 42]
    state, action = buffer.arrays["state"], buffer.arrays["action"]
    assert state.shape == (42, 5) and action.shape == (42, 2)
    assert state.dtype == action.dtype == np.float32
    env = gym.make(config.env_id)
    for episode, seed in enumerate(seeds):
        env.reset(seed=seed)
        for step in range(21 * episode, 21 * (episode + 1)):
            np.testing.assert_allclose(env.unwrapped.state, state[step], rtol=1e-6)
            env.step(action[step])
    env.close()
    with pytest.raises(SystemExit, match="2 of 4 episodes succeeded, expected 5"):
        bundling.successes(policy, config, 5, 4)
