"""Numbers that float32 cannot tell apart, on their way from a robot to a policy and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.control.recording import load_recording
from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.control import ControlLoop, ControlOptions, SimulatedClock, SimulatedInference
from lfm_runtime.control.recording.recorder import Recorder
from lfm_runtime.errors import InputError
from lfm_runtime.policy.chunk_policy import ChunkPolicy, Frame
from lfm_runtime.policy.spec import DataSpec

HERE = np.array([4_200_000.125, -1_700_000_000.25])
STEP = 1e-3
"""What an action adds to where the robot is; float32 has steps of 0.5 and 128 there."""


class FarPolicy(ChunkPolicy):
    """Its k-th action is where the robot is, and k steps on."""

    max_prefix = 2  # type: ignore[assignment]

    def __init__(self) -> None:
        spec = DataSpec({"position": (2,)}, 2, float64_keys=("position", "action"))
        super().__init__(spec, n_obs_steps=1, horizon=4, n_action_steps=4)

    @property
    def metadata(self) -> dict[str, Any]:
        return {**super().metadata, "name": "far", "nfe": 1}

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: Any = None, prefix: Any = None
    ) -> np.ndarray:
        assert batch["position"].dtype == np.float64
        steps = STEP * np.arange(1, 5)[None, :, None]
        actions = batch["position"][:, -1:] + steps
        if prefix is not None:
            assert prefix.dtype == np.float64
            actions[:, : prefix.shape[1]] = prefix
        return np.asarray(actions)

    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        return self.predict_action_chunk({"position": frames[-1].obs["position"][None, None]})[0]

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        return HERE - 1, HERE + 1


class FarRobot:
    """Goes where it is told to."""

    simulated = True

    def __init__(self) -> None:
        self.position = HERE.copy()
        self.told: list[np.ndarray] = []
        self.done = False

    def observe(self) -> dict[str, np.ndarray]:
        return {"position": self.position}

    def act(self, action: np.ndarray) -> None:
        self.told.append(action.copy())
        self.position = action.copy()
        self.done = len(self.told) >= 12

    def stop(self) -> None:
        pass


def control(policy: Any, options: ControlOptions, recorder: Recorder | None = None) -> FarRobot:
    robot, clock = FarRobot(), SimulatedClock()
    loop = ControlLoop(
        robot,
        policy,
        hz=10,
        options=options,
        clock=clock,
        inference=lambda predict: SimulatedInference(predict, clock),
        recorder=recorder,
    )
    assert loop.run().reason == "done"
    return robot


def expected(n: int) -> np.ndarray:
    return HERE + STEP * np.arange(1, n + 1)[:, None]


def test_a_server_takes_and_gives_them(start: Callable[..., Any]) -> None:
    one = start(FarPolicy())
    with WebsocketClientPolicy(port=one.port) as policy:
        assert policy.spec == FarPolicy().spec
        assert policy.metadata["observations"]["position"]["dtype"] == "float64"
        actions = policy.infer({"position": HERE})["actions"]
        assert actions.dtype == np.float64
        np.testing.assert_allclose(actions, expected(4), rtol=0, atol=1e-6)
        prefix = HERE[None, None] + 0.25
        chunk = policy.predict_action_chunk({"position": HERE[None, None]}, prefix=prefix)
        assert chunk.dtype == np.float64 and (chunk[0, 0] == HERE + 0.25).all()
        np.testing.assert_allclose(policy.select_action({"position": HERE}), expected(1)[0])
        low, high = policy.training_range("position")
        np.testing.assert_array_equal([low, high], [HERE - 1, HERE + 1])
        assert policy.fake_obs()["position"].dtype == np.float64
        with pytest.raises(InputError, match="'position' has dtype float32, expected float64"):
            policy.select_action({"position": HERE.astype(np.float32)})


@pytest.mark.parametrize("joining", ["replace", "ensemble", "prefix"])
def test_the_control_loop_moves_by_less_than_float32_can_tell(joining: str, tmp_path: Path) -> None:
    options = ControlOptions(
        joining=joining,
        lead={"replace": 0, "ensemble": None, "prefix": 1}[joining],
        low=(HERE - 1).tolist(),
        high=(HERE + STEP * 9.5).tolist(),
        max_change=1.5 * STEP,
        position_key="position",
    )
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        robot = control(FarPolicy(), options, recorder)
    told = np.array(robot.told)
    assert told.dtype == np.float64
    np.testing.assert_allclose(told[:9], expected(9), rtol=0, atol=1e-6)
    np.testing.assert_allclose(told[9:], np.repeat([HERE + STEP * 9.5], 3, axis=0), atol=1e-6)
    run = load_recording(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run.episode(0).action, told)


def test_the_server_drives_a_robot_there(start: Callable[..., Any]) -> None:
    with WebsocketClientPolicy(port=start(FarPolicy()).port) as policy:
        robot = control(policy, ControlOptions(max_change=1.5 * STEP))
    np.testing.assert_allclose(robot.told, expected(12), rtol=0, atol=1e-6)
