"""docs/examples/robot.py on a robot that is an object in memory."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import config_from_dict
from lfm_policy.control import load_recording
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.exporting import export_policy
from lfm_policy.policy import DataSpec, Policy, PolicyModel
from lfm_runtime import OnnxPolicy
from lfm_runtime.errors import InputError

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "robot.py"
AT = np.array([0.5, 0.0, 0.0, -1.5, 0.0, 2.0, 0.0])


class Sdk:
    """Seven joints that are where they were commanded to be."""

    def __init__(self) -> None:
        self.joints, self.commands, self.holds = AT.copy(), list[list[float]](), 0
        self.fails_at: int | None = None
        self.blind_from: int | None = None
        self.reads = 0

    def read_joints(self) -> np.ndarray:
        self.reads += 1
        blind = self.blind_from is not None and self.reads > self.blind_from
        return np.full(7, np.nan) if blind else self.joints.copy()

    def newest_frame(self) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    def command_joints(self, joints: list[float]) -> None:
        if len(self.commands) == self.fails_at:
            raise OSError("the bus is gone")
        self.commands.append(joints)
        self.joints = np.array(joints)

    def hold(self) -> None:
        self.holds += 1


@pytest.fixture(scope="module")
def robot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("robot_example", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with random weights that sees the joints."""
    options = {
        "policy": {"n_obs_steps": 1, "horizon": 8, "n_action_steps": 4},
        "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 1},
        "sampler": {"solver": "euler", "nfe": 1},
    }
    config, spec = config_from_dict(options, "test"), DataSpec({"joints": (7,)}, 7)
    generator = np.random.default_rng(0)
    seen = {key: AT + generator.uniform(-0.1, 0.1, (50, 7)) for key in ("joints", "action")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = Policy(config, spec, PolicyModel(config, spec), Normalizer.fit(seen))
    return export_policy(policy, tmp_path_factory.mktemp("robot") / "exported")


@pytest.fixture
def run(robot: ModuleType, exported: Path) -> Callable[..., Any]:
    def on(sdk: Sdk, *more: str) -> Any:
        line = [str(exported), "--hz", "50", "--seconds", "0.6", "--first-move", "0.2", *more]
        return robot.control(lambda: robot.Arm(sdk), robot.parse(line))

    return on


def test_a_run(run: Any, robot: ModuleType, tmp_path: Path) -> None:
    sdk = Sdk()
    result = run(sdk, "--record", str(tmp_path / "run.zarr"))
    assert result.reason == "max_ticks" and sdk.holds == 1 and result.steps > 5
    assert result.approached >= 10  # 0.2 seconds, and more where that would be too fast
    commands = np.array(sdk.commands, dtype=np.float32)
    low, high = np.array(robot.LOW, np.float32), np.array(robot.HIGH, np.float32)
    assert (commands >= low).all() and (commands <= high).all()
    changes = np.abs(np.diff(np.concatenate([AT[None], commands]), axis=0))
    assert changes.max() <= robot.FASTEST / 50 + 1e-6
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    np.testing.assert_array_equal(episode.action, commands)


def test_a_dry_run_sends_nothing(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    sdk = Sdk()
    with caplog.at_level(logging.INFO):
        result = run(sdk, "--dry-run")
    assert result.reason == "max_ticks" and (sdk.commands, sdk.holds) == ([], 1)
    assert sum("would be told" in r.message for r in caplog.records) > 10


def test_bad_observations_end_it(run: Any) -> None:
    sdk = Sdk()
    sdk.blind_from = 8
    result = run(sdk, "--max-bad-observations", "4")
    assert result.reason == "bad observations" and result.bad_observations == 4
    assert sdk.holds == 1 and np.isfinite(sdk.commands).all()


def test_an_error_while_it_acts_stops_it_once(run: Any) -> None:
    sdk = Sdk()
    sdk.fails_at = 5
    with pytest.raises(OSError, match="the bus is gone"):
        run(sdk)
    assert len(sdk.commands) == 5 and sdk.holds == 1


def test_what_does_not_fit_is_said_before_it_moves(run: Any, robot: ModuleType) -> None:
    sdk = Sdk()
    with pytest.raises(InputError, match="lead is 9"):
        run(sdk, "--lead", "9")
    assert (sdk.commands, sdk.holds) == ([], 1)
    with pytest.raises(InputError, match="nowhere"):
        robot.control(lambda: robot.Arm(sdk), robot.parse(["nowhere"]))
    assert sdk.holds == 1  # it was not even connected


def test_a_server_is_told_of_the_end(
    robot: ModuleType, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []

    class Client(OnnxPolicy):
        def __init__(self, address: str, **options: Any) -> None:
            super().__init__(exported)

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            left.append(self)

    monkeypatch.setattr(robot, "WebsocketClientPolicy", Client)
    line = ["ws://gpu-box:8000", "--hz", "50", "--seconds", "0.1"]
    assert robot.control(lambda: robot.Arm(Sdk()), robot.parse(line)).reason == "max_ticks"
    assert len(left) == 1


def test_it_says_where_ones_own_robot_goes(
    robot: ModuleType, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["robot.py", str(exported)])
    with pytest.raises(SystemExit, match="put your SDK's connection into connect"):
        robot.main()
