"""``lfm-policy eval``: one short rollout, and what cannot be rolled out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, PolicyModel, write_checkpoint

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

Command = Callable[..., Any]

OBS_SHAPES = {"agent_pos": (2,), "block_pose": (4,), "keypoints": (16,)}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an untrained policy for PushT."""

    def make(
        env: str = "lfm/PushT-v0", obs_shapes: dict[str, tuple[int, ...]] | None = None
    ) -> Path:
        options = {
            "policy": {"horizon": 9},
            "flow": {"n_blocks": 1, "step_sizes": []},
            "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 2},
            "env": {"id": env, "max_episode_steps": 6},
        }
        config = config_from_dict(options, "test")
        spec = DataSpec(obs_shapes or OBS_SHAPES, 2)
        model = PolicyModel(config, spec)
        shapes = {**spec.obs_shapes, "action": (2,)}
        arrays = {k: np.stack([np.zeros(s), np.full(s, 512.0)]) for k, s in shapes.items()}
        record = {"steps": 1, "train_seconds": 1.0, "push_seconds": 0.0}
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        write_checkpoint(
            folder,
            config=config,
            spec=spec,
            model_state=model.state_dict(),
            normalizer=Normalizer.fit(arrays),
            training={
                "complete": True,
                "block_steps": [1],
                "steps": 1,
                "train_seconds": 1.0,
                "push_seconds": 0.0,
                "blocks": [record],
                "parameters": model.parameter_counts(),
            },
        )
        return folder

    return make


def test_eval(command: Command, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint()
    arguments = ["eval", folder, "--episodes", 2, "--nfe", 1, 3, "--quiet", "--seed", 4]
    result = command(*arguments)
    assert result.code == 0, result.err
    assert "lfm/PushT-v0, seeds 100000 to 100001, noise seed 4, n = 2" in result.out
    assert "95% interval" in result.out
    written = json.loads((folder / "eval" / "eval.json").read_text())
    assert (folder / "eval" / "eval.png").read_bytes().startswith(b"\x89PNG")
    assert [cell["nfe"] for cell in written["cells"]] == [1, 3]
    as_json = command(*arguments, "--json", "--output", tmp_path / "other")
    report = json.loads(as_json.out)
    assert report == json.loads((tmp_path / "other" / "eval.json").read_text())
    for cell, other in zip(report["cells"], written["cells"], strict=True):
        assert cell["episodes"] == other["episodes"]
        assert [episode["steps"] for episode in cell["episodes"]] == [6, 6]


def test_where_steps_end(command: Command, make_checkpoint: Callable[..., Path]) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint()
    options = ["--episodes", 1, "--nfe", 2, "--times", "[[0.25]]", "--quiet"]
    result = command("eval", folder, *options)
    assert result.code == 0, result.err
    assert "2 (2 at 0.25)" in result.out
    (cell,) = json.loads((folder / "eval" / "eval.json").read_text())["cells"]
    assert (cell["nfe_per_block"], cell["block_times"]) == ([2], [[0.25]])


def test_fewer_actions_of_a_chunk(command: Command, make_checkpoint: Callable[..., Path]) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint()
    reports = []
    for more in ([], ["--n-action-steps", 8], ["--n-action-steps", 1]):
        result = command("eval", folder, "--episodes", 1, "--quiet", "--json", *more)
        assert result.code == 0, result.err
        reports.append(json.loads(result.out))
    assert [report["n_action_steps"] for report in reports] == [8, 8, 1]
    configured, same, fewer = (report["cells"][0]["episodes"][0] for report in reports)
    assert configured == same
    assert (configured["steps"], configured["chunks"]) == (6, 1)
    assert (fewer["steps"], fewer["chunks"]) == (6, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "3", "--video", "4"], "episode 3 was to be filmed, but there are only 3"),
        (["--video-episodes", "200"], "episode 200 was to be filmed, but there are only 200"),
        (["--env", "lfm/Nothing-v0"], "environment 'lfm/Nothing-v0' cannot be created"),
        (["--env", "nonsense"], "environment 'nonsense'"),
        (["--nfe", "1,1"], "block_nfe has 2 elements, expected one for each of 1 block(s)"),
        (["--nfe", "3", "--times", "0.3"], "times are [0.3], which are for 2 steps; the blocks"),
        (["--solver", "eular"], "solver is 'eular', expected one of euler"),
        (["--solver", "heun", "--nfe", "3"], "nfe is 3, expected a multiple of 2"),
        (["--solver", "dopri5", "--nfe", "3"], "the solver 'dopri5' chooses its steps itself"),
        (["--nfe", "1", "200", "--solver", "midpoint"], "nfe is 1, expected a multiple of 2"),
        (["--device", "gpu"], "device 'gpu': expected auto, cpu, cuda"),
        (["--num-envs", "5000"], "num_envs is 5000, expected 1 to 1024"),
        (["--n-action-steps", "9"], "n_action_steps is 9, expected 1 to 8"),
    ],
)
def test_bad_input(
    command: Command, make_checkpoint: Callable[..., Path], arguments: list[str], message: str
) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint()
    result = command("eval", folder, *arguments)
    assert result.code == 2
    assert result.err.startswith("error: ") or "\nerror: " in result.err
    assert message in result.err and not result.out
    assert not (folder / "eval").exists()


def test_no_environment(command: Command, make_checkpoint: Callable[..., Path]) -> None:
    result = command("eval", make_checkpoint(env=""), "--episodes", 1)
    assert result.code == 2
    assert "the checkpoint names no environment (env.id is empty)" in result.err


def test_another_environment_than_in_training(
    command: Command, make_checkpoint: Callable[..., Path]
) -> None:
    pytest.importorskip("gym_pusht")
    folder = make_checkpoint(obs_shapes={"agent_pos": (2,), "gripper": (1,)})
    result = command("eval", folder, "--episodes", 1)
    assert result.code == 2
    assert "environment 'lfm/PushT-v0' does not fit the policy" in result.err
    assert "observation 'gripper'" in result.err


ENVIRONMENT = """
import gymnasium as gym
import numpy as np

SHAPES = {{"agent_pos": 2, "block_pose": 4, "keypoints": 16}}

class Own(gym.Env):
    metadata = {{"render_modes": ["rgb_array"], "render_fps": 10}}
    observation_space = gym.spaces.Dict(
        {{key: gym.spaces.Box(-1e3, 1e3, (n,), np.float32) for key, n in SHAPES.items()}}
    )
    action_space = gym.spaces.Box(-1e3, 1e3, (2,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def _obs(self):
        return {{key: np.zeros(n, np.float32) for key, n in SHAPES.items()}}

    def reset(self, *, seed=None, options=None):
        self.seed, self.count = seed, 0
        return self._obs(), {{}}

    def step(self, action):
        self.count += 1
        return self._obs(), {reward}, False, False, {info}

    def render(self):
        return np.full((64, 48, 3), 30 * self.count, np.uint8)

gym.register("{name}-v0", entry_point=Own)
"""


@pytest.fixture
def own_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that writes a module into the working folder and returns the id."""
    monkeypatch.chdir(tmp_path)

    def write(reward: str = "0.5", info: str = "{}") -> str:
        name = f"own_env_{tmp_path.name.replace('-', '_')}"
        text = ENVIRONMENT.format(reward=reward, info=info, name=name)
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}:{name}-v0"

    return write


def test_an_environment_of_the_working_folder_that_reports_no_success(
    command: Command, make_checkpoint: Callable[..., Path], own_env: Callable[..., str]
) -> None:
    folder, env_id = make_checkpoint(), own_env()
    arguments = ["eval", folder, "--env", env_id, "--episodes", 2, "--quiet", "--video", 1]
    result = command(*arguments)
    assert result.code == 0, result.err
    warning = (
        f"warning: environment '{env_id}' never said whether an episode succeeded: let its step() "
        "return info['success'] or info['is_success'], True or False; where the end of an "
        "episode before its time means success, say so with --success terminated "
        "(env.success=terminated)"
    )
    assert result.err.splitlines().count(warning) == 1 and "Warning:" not in result.err
    (row,) = [line.split() for line in result.out.splitlines() if " euler " in line]
    assert row[2:7] == ["-", "-", "-", "0.500", "-"]
    written = json.loads((folder / "eval" / "eval.json").read_text())
    summary = written["cells"][0]["summary"]
    assert summary["successes"] is summary["success_rate"] is summary["success_interval"] is None
    assert [path.name for path in (folder / "eval" / "videos").iterdir()] == [
        "episode_0000_unknown.mp4"
    ]


@pytest.mark.parametrize("processes", ["--processes", "--no-processes"])
def test_success_under_its_other_name(
    command: Command,
    make_checkpoint: Callable[..., Path],
    own_env: Callable[..., str],
    processes: str,
) -> None:
    env_id = own_env(info="{'is_success': np.array([self.seed % 2 == 0])}")
    arguments = ["eval", make_checkpoint(), "--env", env_id, "--episodes", 3, "--json", processes]
    result = command(*arguments, "--num-envs", 2)
    assert result.code == 0 and "never said" not in result.err
    assert json.loads(result.out)["cells"][0]["summary"]["successes"] == 2


def test_a_reward_that_is_no_number(
    command: Command, make_checkpoint: Callable[..., Path], own_env: Callable[..., str]
) -> None:
    env_id = own_env(reward="float('nan') if self.seed == 100_001 and self.count == 4 else 0.0")
    folder = make_checkpoint()
    result = command("eval", folder, "--env", env_id, "--episodes", 3, "--quiet")
    assert (result.code, result.out) == (2, "") and not (folder / "eval").exists()
    assert result.err == (
        f"error: environment '{env_id}', episode 1 (seed 100001), step 3: the reward is nan, "
        "expected a finite number\n"
    )


@pytest.mark.parametrize("name", ["eval", "control"])
def test_a_module_that_is_not_there(
    command: Command,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_checkpoint()
    result = command(name, folder, "--env", "no_such_module_here:X-v0", "--quiet")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: environment 'no_such_module_here:X-v0' cannot be created: no module named "
        f"'no_such_module_here'; looked in {tmp_path} and where Python finds packages\n"
    )
