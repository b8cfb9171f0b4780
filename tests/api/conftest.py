"""A tiny experiment on episodes in memory, for all tests of the Python interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lfm_policy import Policy, train

TINY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"validation_ratio": 0.2},
    "policy": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3},
    "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
    "flow": {"n_blocks": 2, "c": 0.2},
    "sampler": {"nfe": 4},
    "push_forward": {"solver": "euler", "n_steps": 2},
    "training": {"total_steps": 8, "batch_size": 8, "log_every": 4, "num_threads": 1},
}
"""Options of two tiny blocks, trained in a second."""


def episodes_of(n_episodes: int = 6, camera: bool = False) -> list[dict[str, Any]]:
    """Return episodes of a hand that goes to a goal, in the plane."""
    generator = np.random.default_rng(0)
    episodes = []
    for number in range(n_episodes):
        hand, goal = generator.uniform(-1, 1, (2, 2))
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(10 + number):
            action = np.clip(goal - hand, -0.15, 0.15)
            rows.append((hand, action))
            hand = hand + action
        obs = {
            "goal": np.repeat(goal[None], len(rows), 0),
            "hand": np.stack([row[0] for row in rows]),
        }
        if camera:
            obs["front"] = generator.integers(0, 256, (len(rows), 16, 16, 3), np.uint8)
        episodes.append({"obs": obs, "action": np.stack([row[1] for row in rows])})
    return episodes


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    return TINY


@pytest.fixture(scope="session")
def reaching() -> Callable[..., list[dict[str, Any]]]:
    return episodes_of


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A trained policy, whose run is ``runs/tiny`` in a folder of its own."""
    folder = tmp_path_factory.mktemp("api") / "runs" / "tiny"
    return train(TINY, episodes_of(), output=folder, device="cpu", quiet=True)
