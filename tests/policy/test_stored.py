"""Checkpoints stored by earlier versions of this package give the same actions today."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lfm_policy import load_policy
from lfm_policy.policy import read_header
from lfm_policy.policy.checkpoint import FORMAT_VERSION

STORED = Path(__file__).with_name("stored")
VERSIONS = sorted(path.name for path in STORED.iterdir() if path.name.startswith("v"))


def check_example(folder: Path) -> None:
    """Compare a stored checkpoint's actions with the stored ones.

    The actions are hundreds of pixels, so the tolerance of 1e-5 is relative. Processors round
    differently, and dopri5 chooses its steps by its error estimate: it gets its own tolerance,
    1e-4 in normalised units.
    """
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    policy = load_policy(folder)
    noise = torch.tensor(expected["noise"])
    for case in expected["cases"]:
        policy.set_sampler(**case["sampler"])
        actions = policy.predict_action_chunk(expected["obs"], noise=noise)
        tolerance = 1e-4 if case["sampler"].get("solver") == "dopri5" else 1e-5
        close = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(actions, torch.tensor(case["actions"]), **close)
        policy.sample_seed(5, episode=3)
        seeded = policy.predict_action_chunk(expected["obs"])
        stored = torch.tensor(case["seed_5_episode_3"])
        torch.testing.assert_close(seeded, stored, **close)


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_checkpoint_gives_the_same_actions(version: str) -> None:
    check_example(STORED / version)


def test_every_format_version_has_an_example() -> None:
    assert [f"v{n}" for n in range(1, FORMAT_VERSION + 1)] == VERSIONS


def test_the_example_is_what_the_readme_says() -> None:
    header = read_header(STORED / "v1")
    assert header.complete
    assert header.config.flow.n_blocks == 2
    assert header.config.network.name == "mlp"
    assert header.config.env.id == "lfm/PushT-v0"
    assert header.spec.obs_shapes == {"agent_pos": (2,), "pose": (4,)}
    assert sum(path.stat().st_size for path in (STORED / "v1").iterdir()) < 100_000


def test_the_generator_writes_an_example_that_passes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", STORED / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_example(tmp_path / "example")
    check_example(tmp_path / "example")
