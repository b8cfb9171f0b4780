"""LeRobot, or what stands for it where it is not installed, and a robot of a plugin of it.

With LeRobot installed, all tests here run with the real one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lfm_policy.control.lerobot.described_robot import DescribedRobot
from lfm_runtime.policy.spec import DataSpec

from ..conftest import Sampled

CONTROL = Path(__file__).resolve().parents[1]
STAND_IN, PLUGIN = CONTROL / "lerobot_stand_in", CONTROL / "lerobot_plugin"
REAL = importlib.util.find_spec("lerobot") is not None

ROBOT: dict[str, Any] = {
    "robot": {"port": "/dev/null", "id": "mine"},
    "hz": 100,
    "joints": {
        "pan.pos": {"unit": "degrees", "low": -90, "high": 90, "max_change": 2},
        "lift.pos": {"unit": "degrees", "low": -10, "high": 90, "max_change": 2},
        "gripper.pos": {"unit": "range_0_100", "low": 0, "high": 100, "max_change": 10},
    },
    "max_staleness": 5.0,
    "max_bad_observations": 3,
    "first_move": 0.01,
}


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make LeRobot importable, with the plugin installed."""
    installed = tmp_path_factory.mktemp("installed")
    (installed / "lerobot_robot_pretend-0.1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: lerobot_robot_pretend\nVersion: 0.1\n"
    (installed / "lerobot_robot_pretend-0.1.dist-info" / "METADATA").write_text(metadata)
    before = list(sys.path)
    sys.path[:0] = [str(installed), str(PLUGIN), *([] if REAL else [str(STAND_IN)])]
    importlib.invalidate_caches()
    yield
    sys.path[:] = before
    for name in list(sys.modules):
        if not REAL and name.partition(".")[0] in ("lerobot", "draccus", "lerobot_robot_pretend"):
            del sys.modules[name]


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes ROBOT with changes; None takes a key away."""

    def write(**changes: Any) -> Path:
        content = {key: value for key, value in (ROBOT | changes).items() if value is not None}
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def described(lerobot: None, file: Callable[..., Path]) -> Callable[..., DescribedRobot]:
    """Return a function that makes the plugin's robot from ROBOT with changes."""
    return lambda **changes: DescribedRobot("pretend", file(**changes))


def robot_options(**more: Any) -> dict[str, Any]:
    """Return what the plugin's robot takes, with more."""
    return {**ROBOT["robot"], **more}


class Upwards:
    """A policy that wants every joint to go up by one in every step, from where the robot is."""

    n_obs_steps, n_action_steps, horizon = 1, 4, 4

    def __init__(self, key: str | None = "state", **others: tuple[int, ...]) -> None:
        self.key, self.start = key, 0.0
        self.spec = DataSpec({**({key: (3,)} if key else {}), **others}, 3)
        self.seen: list[dict[str, np.ndarray]] = []

    def reset(self) -> None: ...

    def sample(self, batch: Any) -> Sampled:
        self.seen.append(dict(batch))
        steps = np.arange(1, 5, dtype=np.float32)[None, :, None]
        start = batch[self.key][:, -1:] if self.key else np.full((1, 1, 3), self.start)
        return Sampled((start + steps * np.ones(3)).astype(np.float32))
