"""Students with eyes of their own: the tasks and the environment of their demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import load_file

from lfm_policy import InputError
from lfm_policy.config import load_config
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import Demo, DemoRecording
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.policy import read_header
from lfm_policy.training import train

pytestmark = pytest.mark.slow

TASKS = ["reach", "push"]
SMALL: dict[str, Any] = {
    "policy": {"n_obs_steps": 2, "horizon": 4, "n_action_steps": 2},
    "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
    "flow": {"n_blocks": 1},
    "training": {"total_steps": 30, "batch_size": 8, "learning_rate": 0.03, "tracker": "none"},
}
EYES: dict[str, Any] = {
    "policy": {"n_obs_steps": 2},
    "network": SMALL["network"],
    "encoder": {"name": "cameras", "image": {"name": "compact", "width": 4, "keypoints": 2}},
    "training": {
        **{"total_steps": 2, "encoder_steps": 2, "batch_size": 8, "encoder_batch_size": 4},
        "tracker": "none",
    },
    "distill": {"samples": 1},
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations of two tasks, with the position and with images."""
    lengths, generator = (11, 14, 9, 16, 12), np.random.default_rng(0)
    n_steps = sum(lengths)
    arrays = {
        "action": generator.normal(size=(n_steps, 2)).astype(np.float32),
        "position": generator.normal(size=(n_steps, 3)).astype(np.float32),
        "image": generator.integers(0, 255, (n_steps, 24, 24, 3), dtype=np.uint8),
    }
    path = tmp_path_factory.mktemp("both") / "both.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(lengths)))
    root = zarr.open_group(str(path), mode="a")
    root.create_array("data/task_index", data=np.repeat([1, 0, 1, 0, 1], lengths))
    root.attrs["tasks"] = TASKS
    return path


def dataset(path: Path, *keys: str, tasks: list[str] = TASKS) -> dict[str, Any]:
    return {"path": str(path), "obs_keys": list(keys), "validation_ratio": 0.2, "tasks": tasks}


@pytest.fixture(scope="module")
def knows(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knows")
    train(
        load_config({**SMALL, "dataset": dataset(both, "position")}),
        folder / "run",
        device="cpu",
        quiet=True,
    )
    return folder / "run"


@pytest.fixture
def answers(knows: Path, both: Path, tmp_path: Path) -> Callable[[list[str]], torch.Tensor]:
    """Return a function that distils for tasks in an order, and returns the teacher's answers."""

    def distilled(tasks: list[str]) -> torch.Tensor:
        folder = tmp_path / "-".join(tasks)
        distill(
            knows,
            folder / "run",
            nfe=1,
            own={**EYES, "dataset": dataset(both, "image", tasks=tasks)},
            pairs_folder=folder / "pairs",
            device="cpu",
            quiet=True,
        )
        assert read_header(folder / "run").spec.tasks == tuple(tasks)
        (part,) = folder.glob("pairs/*/part-*.safetensors")
        return load_file(part)["rows"]

    return distilled


def test_a_teacher_is_asked_for_its_own_numbers_of_tasks(
    answers: Callable[[list[str]], torch.Tensor],
) -> None:
    torch.testing.assert_close(answers(TASKS[::-1]), answers(TASKS), rtol=0, atol=0)


def test_other_tasks_are_refused(answers: Callable[[list[str]], torch.Tensor]) -> None:
    with pytest.raises(InputError, match="tasks are push, expected those of the teacher .*, push"):
        answers(["push"])


def test_the_environment_is_that_of_the_recording(tmp_path: Path) -> None:
    from lfm_envs.robosuite.tasks import default_env_args

    path = tmp_path / "lift.hdf5"
    recording = DemoRecording(path, {})
    for n in range(4):
        generator = np.random.default_rng(n)
        obs = {
            "object": generator.normal(size=(12, 10)).astype(np.float32),
            "agentview_image": generator.integers(0, 255, (12, 24, 24, 3), dtype=np.uint8),
        }
        recording.add(n, Demo(generator.uniform(-1, 1, (12, 7)), obs, np.zeros(12), np.zeros(12)))
    described = default_env_args("Lift")
    described["env_kwargs"]["control_freq"] = 10
    recording.finish(described)
    data = {"name": "robomimic", "path": str(path), "validation_ratio": 0.3}
    env = {"id": "lfm/Lift-v0", "max_episode_steps": 400}
    options = {**SMALL, "dataset": {**data, "obs_keys": ["object"]}, "env": env}
    train(load_config(options), tmp_path / "knows", device="cpu", quiet=True)
    own = {
        **EYES,
        "dataset": {**data, "obs_keys": ["agentview_image"]},
        "env": env | {"id": "lfm/LiftImage-v0"},
    }

    def student(**more: Any) -> Any:
        given: dict[str, Any] = {"nfe": 1, "own": own, "device": "cpu", "quiet": True, **more}
        distill(tmp_path / "knows", tmp_path / "eyes", **given)
        return read_header(tmp_path / "eyes").config.env.options

    found = student()
    assert found["env_args"]["env_kwargs"]["control_freq"] == 10
    assert found["cameras"] == ["agentview"]
    assert student(resume=True) == found
