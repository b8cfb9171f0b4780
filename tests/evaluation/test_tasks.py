"""One policy for two tasks, trained from two files, told what to do, and evaluated in both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import zarr
from lfm_envs import ENVIRONMENTS, Environment

from lfm_policy import evaluate, load_policy
from lfm_policy.cli.main import main
from lfm_policy.config import load_config
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.errors import InputError
from lfm_policy.evaluation.episodes import RolloutConfig
from lfm_policy.exporting import export_policy
from lfm_policy.serving.observations import ConnectionHistory
from lfm_policy.training import train
from lfm_runtime.export.onnx_policy import OnnxPolicy

pytestmark = pytest.mark.slow
TASKS = ("left", "right")
PLACE = "test/Go-{task}-v0"


class Go(gym.Env):
    """Go in the direction that the task says; which one, nothing that is observed says."""

    observation_space = gym.spaces.Dict({"place": gym.spaces.Box(-9, 9, (1,), np.float32)})
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, direction: float) -> None:
        self.direction = direction

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1)
        return {"place": np.float32([self.place])}, {}

    def step(self, action: Any) -> Any:
        self.place += float(action[0])
        success = self.place * self.direction > 3
        return {"place": np.float32([self.place])}, 0.0, success, False, {"success": success}


@pytest.fixture(scope="module")
def environments() -> Iterator[None]:
    """Add an environment for each task, and take both away again."""
    with pytest.MonkeyPatch.context() as patch:
        for known in ("_entries", "_plugins"):
            patch.setattr(ENVIRONMENTS, known, dict(getattr(ENVIRONMENTS, known)))
        for task, direction in zip(TASKS, (-1.0, 1.0), strict=True):
            name = PLACE.replace("{task}", task)
            ENVIRONMENTS.add(name, Environment(Go, 20, {"direction": direction}))
        yield


@pytest.fixture(scope="module")
def made(environments: None, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("tasks")
    generator = np.random.default_rng(0)
    for task, direction in zip(TASKS, (-1.0, 1.0), strict=True):
        actions = np.float32(direction * 0.5 + generator.normal(0, 0.02, (80, 1)))
        places = (
            np.concatenate([[0.0], np.cumsum(actions[:-1])], dtype=np.float32).reshape(8, 10) % 2
            - 1
        )
        arrays = {"action": actions, "place": places.reshape(80, 1)}
        ends = np.arange(10, 81, 10)
        write_robomimic(folder / "demos" / f"{task}.hdf5", ReplayBuffer(arrays, ends))
    config = load_config(
        {
            "name": "go",
            "dataset": {"name": "several", "path": str(folder / "demos"), "tasks": ["*"]},
            "policy": {"n_obs_steps": 1, "horizon": 4, "n_action_steps": 2},
            "network": {"name": "mlp", "width": 32, "n_layers": 1},
            "flow": {"n_blocks": 1, "step_sizes": []},
            "sampler": {"nfe": 4, "noise_scale": 0.3},
            "training": {"total_steps": 600, "batch_size": 32, "warmup_steps": 5, "obs_noise": 0.1},
            "env": {"id": PLACE, "max_episode_steps": 20},
        }
    )
    train(config, folder / "run", quiet=True)
    exported = folder / "exported"
    policy = load_policy(folder / "run")
    export_policy(policy, exported)
    return SimpleNamespace(run=folder / "run", policy=policy, exported=exported)


def test_all_tasks_are_done_and_told_apart(made: SimpleNamespace) -> None:
    result = evaluate(made.policy, episodes=3, num_envs=2, quiet=True)
    assert (result.n, result.successes) == (6, 6)
    summary = result.cell.summary()
    assert {task: found["successes"] for task, found in summary["tasks"].items()} == {
        "left": 3,
        "right": 3,
    }
    assert summary["mean_over_tasks"] == 1.0
    assert [episode.task for episode in result.episodes] == ["left"] * 3 + ["right"] * 3
    # In the other task's place the same policy goes the other way.
    wrong = evaluate(made.policy, "test/Go-left-v0", tasks=["right"], episodes=3, quiet=True)
    assert wrong.successes == 0


def test_results_do_not_depend_on_how_many_run_at_a_time(made: SimpleNamespace) -> None:
    one, three = (
        evaluate(made.policy, episodes=3, num_envs=n, quiet=True).episodes for n in (1, 3)
    )
    assert one == three


def test_the_command_shows_and_keeps_every_task(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--episodes", "2", "--num-envs", "2", "--no-processes", "--output", str(tmp_path)]
    assert main(["eval", str(made.exported), *options, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "successes by task" in printed
    for task in TASKS:
        assert f"{task} " in printed
    (cell,) = json.loads((tmp_path / "eval.json").read_text())["cells"]
    assert cell["summary"]["tasks"]["right"]["successes"] == 2
    assert main(["eval", str(made.exported), *options, "--task", "1", "--quiet"]) == 0
    assert "left " not in capsys.readouterr().out
    assert main(["eval", str(made.exported), *options, "--task", "rihgt", "--quiet"]) == 2
    assert "did you mean 'right'" in capsys.readouterr().err


def test_an_export_takes_its_task_by_name_number_or_setting(made: SimpleNamespace) -> None:
    policy = OnnxPolicy(made.exported)
    assert policy.spec.tasks == TASKS
    assert policy.metadata["tasks"] == list(TASKS)
    place = np.zeros(1, np.float32)
    with pytest.raises(InputError, match="nothing says which task .* left, right"):
        policy.select_action({"place": place})
    for said in ("right", 1):
        policy.reset()
        assert policy.select_action({"place": place, "task": said})[0] > 0.2
    policy.task = 0
    policy.reset()
    assert policy.task == "left"
    assert policy.select_action({"place": place})[0] < -0.2
    with pytest.raises(InputError, match="no task 'up'"):
        policy.task = "up"
    batch = {"place": np.zeros((2, 1, 1), np.float32), "task": ["right", "left"]}
    first = policy.predict_action_chunk(batch)[:, 0, 0]
    assert first[0] > 0 > first[1]
    np.testing.assert_array_equal(np.sort(policy.fake_obs()["task"]), [0, 1])


def test_a_client_says_its_task_by_name_prompt_or_not_at_all(made: SimpleNamespace) -> None:
    spec, place = made.policy.spec, np.zeros(1, np.float32)
    history = ConnectionHistory(spec, 2, task="left")
    for said, expected in (
        ({"task": "right"}, 1),
        ({"prompt": "right"}, 1),
        ({}, 0),
        ({"task": 1}, 1),
    ):
        history.clear()
        observed = history.add({"place": place, **said})
        assert observed["task"].shape == (2, 2)
        np.testing.assert_array_equal(observed["task"].argmax(1), expected)
    whole = history.add({"place": np.zeros((2, 1), np.float32), "task": "right"})
    np.testing.assert_array_equal(whole["task"].argmax(1), 1)
    with pytest.raises(InputError, match="no task 'up'"):
        history.add({"place": place, "task": "up"})


def test_control_is_told_its_task(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["control", str(made.run), "--simulated", "--hz", "10", "--json"]
    assert main([*common, "--task", "right"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["success"] is True
    assert main(common) == 2
    assert "say which task is to be done, with --task" in capsys.readouterr().err


def test_a_recording_says_its_tasks_and_is_trained_on(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    for task in TASKS:
        common = ["control", str(made.run), "--simulated", "--hz", "10", "--quiet"]
        assert main([*common, "--task", task, "--record", str(tmp_path / f"{task}.zarr")]) == 0
    path = str(tmp_path / "right.zarr")
    assert ZarrConfig(path=path, obs_keys=["place"]).episode_tasks() == ["right"]
    data: dict[str, Any] = {"name": "zarr", "path": path, "obs_keys": ["place"], "tasks": ["*"]}
    assert ZarrConfig(**data).load().tasks == ("right",)
    more = ["training.total_steps=2", "dataset.each={obs_keys: [place]}"]
    more += [f"dataset.path={tmp_path}/*.zarr", "--quiet", "--output", str(tmp_path / "more")]
    assert main(["train", "--init-from", str(made.run), *more]) == 0
    assert load_policy(tmp_path / "more").spec.tasks == TASKS
    group = zarr.open_group(path, mode="a")
    group["data/task"][0] = [0.5, 0.5]
    with pytest.raises(InputError, match=r"data/task is float32 .* of 0 and one 1"):
        ZarrConfig(**data).load()


def test_an_environment_that_does_not_say_its_task_is_an_error(made: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="does not say which task is to be done, .* left, right"):
        evaluate(made.policy, "test/Go-left-v0", episodes=1, quiet=True)
    with pytest.raises(InputError, match="nothing says what {task} stands for"):
        RolloutConfig(PLACE).by_task(())


def test_the_task_gets_no_noise_and_is_not_scaled(made: SimpleNamespace) -> None:
    stats = made.policy.normalizer["task"]
    np.testing.assert_array_equal(stats.scale.numpy(), 1)
    np.testing.assert_array_equal(stats.offset.numpy(), 0)
