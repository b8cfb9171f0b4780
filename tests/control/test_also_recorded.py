"""Observations that are written down although the policy does not see them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.data.zarr.store import load_arrays
from lfm_policy.errors import InputError
from lfm_runtime.control import Recorder

from .conftest import Bench, Counter


class Sees(Counter):
    """A counter with a camera and a force that the policy does not know."""

    def __init__(self, broken_from: int = 10_000) -> None:
        super().__init__()
        self.broken_from = broken_from

    def observe(self) -> Any:
        obs = dict(super().observe() or {})
        force = np.nan if self.seen > self.broken_from else float(self.seen)
        return {
            **obs,
            "camera": np.full((4, 4, 3), self.seen, np.uint8),
            "force": np.array([force]),
        }


def recorded(path: Path, robot: Counter, *keys: str) -> dict[str, np.ndarray]:
    with Recorder(path, {"hz": 10}) as recorder:
        Bench(robot=robot).run(20, recorder=recorder, record_obs=keys)
    names = ["data/next", *(f"data/{key}" for key in keys if key != "next")]
    return {k.removeprefix("data/"): v for k, v in load_arrays(path, names).items()}


def test_they_are_of_the_same_tick_as_what_the_policy_sees(tmp_path: Path) -> None:
    found = recorded(tmp_path / "run.zarr", Sees(), "next", "camera", "force")
    assert found["camera"].dtype == np.uint8 and found["camera"].shape == (20, 4, 4, 3)
    np.testing.assert_array_equal(found["camera"][:, 0, 0, 0], found["force"][:, 0])
    np.testing.assert_array_equal(found["force"][:, 0], found["next"][:, 0] + 1)


def test_the_run_does_not_depend_on_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    found = recorded(tmp_path / "run.zarr", Sees(broken_from=5), "force")
    np.testing.assert_array_equal(found["force"][:, 0], np.minimum(np.arange(1, 21), 5))
    np.testing.assert_array_equal(found["next"][:, 0], np.arange(20))
    assert caplog.text.count("'force' is recorded as it was") == 1


def test_what_is_never_there_is_said_before_anything_moves(tmp_path: Path) -> None:
    robot = Sees()
    with pytest.raises(InputError, match="'pose' is to be recorded, .* it gives camera, force, n"):
        recorded(tmp_path / "run.zarr", robot, "pose")
    assert not robot.acted and robot.stops == 1


def test_nothing_moves_before_it_is_known_where_the_robot_is() -> None:
    class Late(Sees):
        obs_keys = ("force",)

        def observe(self) -> Any:
            obs = super().observe()
            return obs | {"force": np.array([np.nan])} if self.seen <= 3 else obs

    robot = Late()
    options: dict[str, Any] = {"position_key": "force", "first_move": 0.2}
    result = Bench(robot=robot).run(10, max_bad_observations=5, **options)
    assert result.bad_observations == 3 and len(robot.acted) == 7
    robot = Late()
    result = Bench(robot=robot).run(10, max_bad_observations=2, **options)
    assert result.reason == "bad observations" and not robot.acted and robot.stops == 1


@pytest.mark.slow
@pytest.mark.parametrize("names", ["image,block_pose", "all"])
def test_a_teacher_and_a_student_can_learn_from_one_recording(
    tmp_path: Path, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gym_pusht")
    path, env = tmp_path / "run.zarr", ["--env", "lfm/PushTImageState-v0"]
    env += ["--env-option", "image_size=48"]
    command = ["control", "pusht-state", "--simulated", "--max-ticks", "4", *env, "--quiet"]
    assert main([*command, "--record", str(path), "--record-obs", names]) == 0
    keys = ("agent_pos", "block_pose", "keypoints", "image")
    found = load_arrays(path, [f"data/{key}" for key in keys])
    assert found["data/image"].shape == (4, 48, 48, 3)
    assert found["data/block_pose"].shape == (4, 4)
    other = ["--record", str(tmp_path / "other.zarr"), "--record-obs"]
    assert main([*command, *other, "picture"]) == 2
    assert "gives no picture: it gives agent_pos, block_pose, image" in capsys.readouterr().err
    assert main([*command, "--record-obs", "image"]) == 2
    assert "give --record" in capsys.readouterr().err
