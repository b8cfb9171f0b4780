"""A demo of seconds: tiny networks, few steps, three short episodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfm_policy.cli.main import main

EPISODES = 3
EPISODE_STEPS = 6


@pytest.fixture(scope="session")
def demo_options(small_zarr: Path) -> list[str]:
    """Options of ``lfm-policy demo`` that make it small."""
    overrides = [
        "dataset.derive=null",
        "dataset.obs_keys=[agent_pos]",
        "policy.horizon=6",
        "policy.n_action_steps=3",
        "network.width=16",
        "network.n_layers=1",
        "network.time_embed_dim=8",
        "push_forward.solver=euler",
        "push_forward.n_steps=2",
        "training.total_steps=12",
        "training.batch_size=8",
        "training.warmup_steps=2",
        "training.log_every=1",
        "training.validation_every=2",
        "training.num_threads=1",
        "distill.samples=1",
        "distill.teacher_steps=4",
        f"env.max_episode_steps={EPISODE_STEPS}",
    ]
    return [
        *overrides,
        *("--dataset", str(small_zarr)),
        *("--episodes", str(EPISODES)),
        *("--device", "cpu"),
    ]


@pytest.fixture(scope="session")
def demo_folder(demo_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished demo; copy it before changing it."""
    pytest.importorskip("gym_pusht")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", *demo_options, "--output", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def page(demo_folder: Path) -> str:
    """The page of the finished demo."""
    return (demo_folder / "demo.html").read_text(encoding="utf-8")
