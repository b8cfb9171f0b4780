"""Real policies behind the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy import load_policy
from lfm_policy.errors import InputError
from lfm_policy.serving import load_served_policy, served_policy
from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.policy.spec import DataSpec

pytestmark = pytest.mark.slow

WAIT = 20.0


def test_a_checkpoint_over_the_network_is_the_checkpoint(
    start: Callable[..., Any], small_run: Path
) -> None:
    local = load_policy(small_run)
    served = load_served_policy(str(small_run), device="cpu")
    with WebsocketClientPolicy(port=start(served.policy).port, timeout=WAIT) as remote:
        assert remote.metadata["checkpoint_sha256"] == local.info["sha256"]
        assert remote.metadata["nfe"] == local.nfe
        for policy in (local, remote):
            policy.sample_seed(2, 1)
        for step in range(2 * local.n_action_steps + 1):
            obs = local.fake_obs(step)
            np.testing.assert_array_equal(local.select_action(obs), remote.select_action(obs))


def test_the_metadata_tell_policies_apart(
    small_run: Path, small_export: Path, tmp_path: Path
) -> None:
    """Also those of the same shapes and the same training, with other weights or normalisers."""
    from safetensors.torch import load_file

    from lfm_policy.cli.main import main
    from lfm_policy.data.normalizer import Normalizer
    from lfm_policy.policy.checkpoint import read_header, read_normalizer, write_checkpoint

    header = read_header(small_run)
    state = load_file(header.folder / "model.safetensors")
    normalizer = read_normalizer(header)
    tensors = normalizer.state_tensors()

    def digest(name: str, state: dict[str, Any], normalizer: Normalizer) -> str:
        folder = tmp_path / name
        folder.mkdir()
        write_checkpoint(
            folder,
            config=header.config,
            spec=header.spec,
            model_state=state,
            normalizer=normalizer,
            training=header.training,
        )
        return str(load_served_policy(str(folder), device="cpu").metadata()["policy_sha256"])

    first = digest("same", state, normalizer)
    key = next(iter(state))
    others = {
        digest("weights", {**state, key: state[key] + 1e-3}, normalizer),
        digest(
            "normaliser",
            state,
            Normalizer.from_tensors({k: v * 1.001 for k, v in tensors.items()}, source="test"),
        ),
    }
    assert main(["export", str(tmp_path / "same"), str(tmp_path / "two"), "--nfe", "2"]) == 0
    for folder in (tmp_path / "two", small_export):
        others.add(load_served_policy(str(folder)).metadata()["policy_sha256"])
    assert first == header.sha256
    assert len({first, *others}) == 5 and "" not in others


def test_sampler_of_a_checkpoint_can_be_chosen(small_run: Path) -> None:
    served = load_served_policy(str(small_run), device="cpu", nfe=4, noise_scale=0.5)
    assert served.metadata()["nfe"] == 4
    assert served.metadata()["noise_scale"] == 0.5
    served.warm_up(max_batch=3)
    with pytest.raises(InputError, match="nfe"):
        load_served_policy(str(small_run), device="cpu", nfe=1)


def test_an_adaptive_solver_computes_one_robot_at_a_time(small_run: Path) -> None:
    assert not load_served_policy(str(small_run), device="cpu", solver="dopri5").batches
    assert load_served_policy(str(small_run), device="cpu").batches


def test_an_export_over_the_network_is_the_export(
    start: Callable[..., Any], small_export: Path
) -> None:
    from lfm_runtime.export.onnx_policy import OnnxPolicy

    local = OnnxPolicy(small_export)
    served = load_served_policy(str(small_export))
    with WebsocketClientPolicy(port=start(served.policy).port, timeout=WAIT) as remote:
        for policy in (local, remote):
            policy.sample_seed(2, 1)
        for step in range(2 * local.n_action_steps + 1):
            obs = local.fake_obs(step)
            np.testing.assert_array_equal(local.select_action(obs), remote.select_action(obs))
    with pytest.raises(InputError, match="export it again"):
        load_served_policy(str(small_export), nfe=2)


def test_refuses_observations_called_like_instructions(make_toy: Callable[..., Any]) -> None:
    for name in ("__reset__", "__noise__", "__prefix__", "prompt"):
        policy = make_toy()
        policy.spec = DataSpec({name: (2,)}, 3)
        with pytest.raises(InputError, match=name):
            served_policy(policy)


def test_largest_message_fits_the_observations(make_toy: Callable[..., Any]) -> None:
    served = served_policy(make_toy({"state": (3,), "camera": (1080, 1920, 3)}))
    # A history of two images as float32, and the state as float64.
    needed = 2 * (4 * 1080 * 1920 * 3 + 24)
    assert needed < served.message_bytes < needed + 100_000
    # Clients made for other observations are answered, and not cut off.
    assert served_policy(make_toy({"state": (3,)})).message_bytes == 16 * 2**20
