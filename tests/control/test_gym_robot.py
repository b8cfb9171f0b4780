"""Environments that do not wait, and whole episodes of PushT."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from lfm_envs.pusht import PushTEnv

from lfm_policy import Dataset, load_policy
from lfm_policy.cli.main import main
from lfm_policy.control import GymRobot, load_recording, rms_jerk, run_episode
from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig, rollout
from lfm_policy.open_policy import open_policy
from lfm_runtime.control import ControlLoop, ControlOptions, Recorder, SimulatedClock
from lfm_runtime.control.recording.zarr_writer import TableWriter

pytestmark = pytest.mark.simulator


class Line(gym.Env[Any, Any]):
    """The state is the sum of all actions; the episode ends at 10."""

    observation_space = gym.spaces.Dict({"next": gym.spaces.Box(-np.inf, np.inf, (1,))})
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.total = 0.0
        return {"next": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> Any:
        self.total += float(action[0])
        ended = self.total >= 10
        obs = {"next": np.array([self.total], np.float32)}
        return obs, self.total / 10, ended, False, {"success": ended}


def test_the_world_begins_with_the_first_action_and_does_not_wait() -> None:
    clock = SimulatedClock(3.0)
    robot = GymRobot(Line(), hz=10, clock=clock)
    clock.advance(5.0)
    assert robot.observe()["next"] == 0
    clock.advance(0.04)
    robot.act(np.ones(1))
    clock.sleep_until(8.1)
    assert robot.observe()["next"] == 1
    clock.sleep_until(8.4)  # three ticks late: the last action stayed in force
    assert robot.observe()["next"] == 4
    robot.act(np.full(1, 5.0))
    clock.sleep_until(8.5)
    assert robot.observe()["next"] == 9
    assert not robot.done
    clock.sleep_until(100.0)
    assert robot.observe()["next"] == 14
    assert robot.done and robot.success
    assert (robot.steps, robot.max_reward) == (6, 1.4)
    np.testing.assert_array_equal(np.concatenate(robot.actions), [1, 1, 1, 1, 5, 5])


def test_nothing_moves_after_stop() -> None:
    clock = SimulatedClock()
    robot = GymRobot(Line(), hz=10, clock=clock)
    robot.observe()
    robot.act(np.ones(1))
    robot.stop()
    clock.advance(1.0)
    assert robot.observe()["next"] == 0


def test_the_jerk_of_a_cubic_is_its_third_derivative() -> None:
    t = np.arange(20) / 50
    cubic = np.stack([2 * t**3, -(t**3) + t], axis=1)
    assert rms_jerk(cubic, 50) == pytest.approx(np.hypot(12, 6))
    assert rms_jerk(np.arange(12.0).reshape(6, 2), 10) == pytest.approx(0, abs=1e-9)
    assert rms_jerk(np.zeros((3, 2)), 10) == 0


def test_environments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"'Line' does not fit[^<]*'agent_pos' +\(2,\) +- +<-"):
        run_episode(load_policy("pusht-state"), Line(), hz=10, seed=0, simulated=True)


@pytest.fixture
def pusht() -> Any:
    pytest.importorskip("gym_pusht.envs.pusht")
    import lfm_envs  # noqa: F401

    env = gym.make("lfm/PushT-v0", max_episode_steps=60)
    yield env
    env.close()


def test_without_delay_it_is_the_rollout(pusht: Any) -> None:
    policy = load_policy("pusht-state")
    config = RolloutConfig("lfm/PushT-v0", seed_start=200_000, max_episode_steps=60)
    (expected,) = rollout(policy, config, [0])
    policy.sample_seed(0, 0)
    outcome = run_episode(policy, pusht, hz=10, seed=200_000, simulated=True)
    assert outcome.steps == expected.steps
    # Contacts amplify the last bit of a matrix product of another size.
    assert outcome.max_reward == pytest.approx(expected.max_reward, abs=0.02)
    assert outcome.control.delays == [0] * expected.chunks


@pytest.mark.parametrize("hz", [10, 50])
def test_pusht_in_real_time(pusht: Any, hz: float) -> None:
    policy = load_policy("pusht-state")
    robot = GymRobot(pusht, hz=hz, seed=200_001)
    result = ControlLoop(robot, policy, hz=hz, options=ControlOptions(lead=2)).run(max_ticks=15)
    assert result.ticks == 15
    assert np.isfinite(robot.actions).all()


def test_the_command_line_records_and_replays(
    pusht: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.zarr"
    arguments = ["control", "pusht-state", "--record", str(path), "--simulated", "--delay", "100"]
    assert main([*arguments, "--lead", "1"]) == 0
    out = capsys.readouterr().out
    assert "written" in out
    assert re.search(r"^success: [01] of 1$", out, re.MULTILINE)
    (episode,) = load_recording(path).episodes
    assert episode.outcome.seed == 200_000 and episode.outcome.ended == "done"
    assert episode.outcome.success == ("success: 1" in out)
    assert 0 < (episode.outcome.max_reward or 0) <= 1
    assert main(["replay", str(path), "--plot", str(tmp_path / "a.png"), "--env"]) == 0
    assert f"again in lfm/PushT-v0: {len(episode.action)} steps" in capsys.readouterr().out
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert main(["replay", str(path), "--json"]) == 0
    assert main([*arguments]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_export_knows_its_environment(
    pusht: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "pusht-state", str(tmp_path / "exported")]) == 0
    capsys.readouterr()
    line = ["control", str(tmp_path / "exported"), "--simulated", "--max-ticks", "5", "--json"]
    assert main(line) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    # The world begins to move with the first action.
    assert outcome["planned"] == 5 and outcome["steps"] == 4


@pytest.mark.parametrize(("arguments", "hz"), [((), 25), (("--hz", "5"), 5)])
def test_ticks_are_as_many_as_the_environment_has_steps_per_second(
    pusht: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str], hz: int
) -> None:
    monkeypatch.setitem(PushTEnv.metadata, "render_fps", 25)
    path = tmp_path / "run.zarr"
    line = ["control", "pusht-state", "--simulated", "--max-ticks", "3", "--record", str(path)]
    assert main([*line, *arguments, "--quiet"]) == 0
    assert Dataset.open(path).fps == hz


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["control", "pusht-state", "--env", "lfm/Nothing-v0"], "cannot be created"),
        (["control", "nowhere"], "nowhere"),
        (["control", "pusht-state", "--joining", "glue"], "joining is 'glue'"),
        (["control", "pusht-state", "--joining", "prefix"], "policy.max_prefix"),
        (["control", "pusht-state", "--delay", "-1"], "--delay is -1"),
        (["control", "pusht-state", "--hang-timeout", "0"], "hang_timeout is 0"),
        (["control", "pusht-state", "--on-policy-change", "go"], "on_policy_change is 'go'"),
        (["control", "pusht-state", "--nfe", "3", "--solver", "midpoint"], "nfe is 3"),
        (["control", "pusht-state", "--noise-scale", "-1"], "noise_scale is -1"),
        (["control", "ws://127.0.0.1:1", "--nfe", "4"], "the server's sampler"),
        (["replay", "nowhere.zarr"], "nowhere.zarr"),
    ],
)
def test_bad_input_is_one_message(
    pusht: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_recording_that_could_not_be_finished_is_said_and_kept(
    pusht: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = TableWriter.append

    def full(self: TableWriter, row: dict[str, Any]) -> None:
        if len(self) == 20:
            raise OSError(28, "No space left on device")
        append(self, row)

    monkeypatch.setattr(TableWriter, "append", full)
    path = tmp_path / "run.zarr"
    arguments = ["control", "pusht-state", "--record", str(path), "--simulated", "--json"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "the recording is not complete: [Errno 28] No space left on device; kept: 20 actions in "
        f"{path}\n"
    )
    (outcome,) = json.loads(captured.out)
    assert outcome["steps"] > 20 and outcome["policy_changes"] == 0
    (episode,) = load_recording(path).episodes
    assert len(episode.action) == 20


def test_a_policy_is_opened_with_the_sampler_asked_for(tmp_path: Path) -> None:
    policy = open_policy("pusht-state", solver="midpoint", nfe=8, noise_scale=0.5)
    assert (policy.nfe, policy.noise_scale) == (8, 0.5)
    assert {solver.name for solver in policy.pipeline.solvers} == {"midpoint"}
    assert open_policy("pusht-state").nfe == 2
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(InputError, match="an exported policy's sampler"):
        open_policy(str(tmp_path), nfe=4)


def test_nobody_is_asked_at_an_address_without_a_server() -> None:
    with pytest.raises((InputError, ConnectionError)):
        open_policy("ws://")


def test_a_recorder_with_the_attributes_of_a_run(pusht: Any, tmp_path: Path) -> None:
    policy = load_policy("pusht-state")
    with Recorder(tmp_path / "run.zarr", {"hz": 10.0}, wait=True) as recorder:
        for episode in range(2):
            policy.sample_seed(0, episode)
            run_episode(
                policy, pusht, hz=10, seed=200_000 + episode, simulated=True, recorder=recorder
            )
    assert [len(episode.action) for episode in load_recording(tmp_path / "run.zarr")] == [60, 60]
