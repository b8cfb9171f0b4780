"""The environment that demonstrations were recorded in goes with the policy."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lfm_envs.robosuite.tasks import default_env_args

from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.config.environment import why_no_environment, with_environment
from lfm_policy.data.robomimic.demos import Demo, DemoRecording
from lfm_policy.errors import InputError

pytestmark = pytest.mark.simulator

STEPS = 12


def write(path: Path, env_args: dict[str, Any], images: tuple[str, ...] = ()) -> Path:
    recording = DemoRecording(path, {})
    for number in range(3):
        generator = np.random.default_rng(number)
        obs = {
            "object": generator.normal(size=(STEPS, 10)).astype(np.float32),
            "robot0_eef_pos": generator.normal(size=(STEPS, 3)).astype(np.float32),
            "robot0_eef_quat": np.tile(np.float32([0, 0, 0, 1]), (STEPS, 1)),
        }
        obs |= {f"{camera}_image": np.zeros((STEPS, 8, 8, 3), np.uint8) for camera in images}
        actions = generator.uniform(-1, 1, (STEPS, 7))
        recording.add(number, Demo(actions, obs, np.zeros(STEPS), np.zeros(STEPS)))
    recording.finish(env_args)
    return path


def config_of(path: Path, **sections: Any) -> ExperimentConfig:
    dataset = {"name": "robomimic", "path": str(path)} | sections.pop("dataset", {})
    return config_from_dict({"dataset": dataset, **sections}, "test")


def test_an_empty_environment_is_filled_in(tmp_path: Path) -> None:
    env_args = default_env_args("Transport")
    config = with_environment(config_of(write(tmp_path / "a.hdf5", env_args)))
    assert config.env.id == "lfm/Transport-v0" and config.env.max_episode_steps == 700
    assert config.env.options == {"env_args": env_args, "cameras": []}
    # It is filled in once, and is what a checkpoint can hold.
    assert with_environment(config) == config


def test_the_cameras_are_those_that_are_observed(tmp_path: Path) -> None:
    cameras = ("agentview", "robot0_eye_in_hand")
    path = write(tmp_path / "a.hdf5", default_env_args("Lift"), cameras)
    config = config_of(path, env={"id": "lfm/LiftImage-v0", "max_episode_steps": 50})
    filled = with_environment(config).env
    assert filled.id == "lfm/LiftImage-v0" and filled.max_episode_steps == 50
    assert filled.options["cameras"] == list(cameras)
    few = config_of(path, dataset={"obs_keys": ["object", "agentview_image"]})
    assert with_environment(few).env.options["cameras"] == ["agentview"]
    none = config_of(path, dataset={"obs_keys": ["object"]}, env={"options": {"image_size": 8}})
    options = with_environment(none).env.options
    assert options["cameras"] == [] and options["image_size"] == 8


def test_the_environment_is_asked_for_what_was_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", default_env_args("Lift"), ("agentview",))
    dataset = {"obs_keys": ["object", "agentview_image"], "rename": {"agentview_image": "top"}}
    named = {"object": "object", "top": "agentview_image"}
    assert with_environment(config_of(path, dataset=dataset)).env.observations == named
    chosen = {"observations": {"object": "other", "top": "agentview_image"}}
    config = config_of(path, dataset=dataset, env=chosen)
    assert with_environment(config).env.observations == chosen["observations"]


def test_absolute_actions_are_an_option_of_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", default_env_args("Lift"))
    config = config_of(path, dataset={"action_space": "absolute"})
    assert with_environment(config).env.options["absolute_actions"] is True


@pytest.mark.parametrize(
    "env_args, env",
    [
        (default_env_args("Lift"), {"id": "lfm/Can-v0"}),
        (default_env_args("Lift"), {"options": {"env_args": default_env_args("Can")}}),
        ({"env_name": "unknown", "type": 2, "env_kwargs": {}}, {}),
    ],
)
def test_what_the_user_chose_or_nobody_knows_stays(
    tmp_path: Path, env_args: dict[str, Any], env: dict[str, Any]
) -> None:
    config = config_of(write(tmp_path / "a.hdf5", env_args), env=env)
    assert with_environment(config) is config


@pytest.mark.parametrize(
    ("env_args", "message"),
    [
        ('{"env_name": "Isaac-Lift-v0", "type": 2}', "has no 'env_kwargs'; expected an object"),
        ("{", "does not parse as JSON"),
        (None, "is absent, expected JSON"),
    ],
)
def test_training_does_not_depend_on_the_description(
    tmp_path: Path, env_args: str | None, message: str
) -> None:
    path = write(tmp_path / "a.hdf5", default_env_args("Lift"))
    with h5py.File(path, "a") as file:
        del file["data"].attrs["env_args"]
        if env_args is not None:
            file["data"].attrs["env_args"] = env_args
    config = config_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_environment(config) is config
    assert message in why_no_environment(config)
    assert str(path) in why_no_environment(config)
    # Actions cannot be made absolute without.
    absolute = config_of(path, dataset={"action_space": "absolute", "obs_keys": ["object"]})
    with pytest.raises(InputError, match=message):
        absolute.dataset.load(tmp_path / "cache")
    # Who has chosen an environment is told that nobody knows how it was set up.
    chosen = config_of(path, env={"id": "lfm/Lift-v0"})
    if env_args is None:
        assert with_environment(chosen) is chosen
        return
    with pytest.warns(UserWarning, match=f"{message}.*: the policy will be evaluated in lfm/Lift"):
        assert with_environment(chosen) is chosen


def test_an_environment_of_somebody_else_is_named(tmp_path: Path) -> None:
    env_args = {"env_name": "Isaac-Lift-v0", "type": 2, "env_kwargs": {}}
    config = config_of(write(tmp_path / "a.hdf5", env_args))
    assert why_no_environment(config).endswith(
        "has env_name 'Isaac-Lift-v0', type 2, which is no environment of this package"
    )
    assert why_no_environment(config_of(tmp_path / "absent.hdf5")) == ""


def test_a_file_that_is_not_there_is_somebody_elses_message(tmp_path: Path) -> None:
    config = config_of(tmp_path / "absent.hdf5")
    assert with_environment(config) is config


def test_other_environments_are_filled_in_without_a_description(tmp_path: Path) -> None:
    env_args = {"env_name": "lfm/PushT-v0", "type": 2, "env_kwargs": {}}
    filled = with_environment(config_of(write(tmp_path / "a.hdf5", env_args))).env
    assert (filled.id, filled.max_episode_steps, filled.options) == ("lfm/PushT-v0", 300, {})


def test_a_policy_is_evaluated_where_it_was_demonstrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")
    env_args = default_env_args("Lift")
    env_args["env_kwargs"]["control_freq"] = 40  # not what the id alone would give
    path, run = write(tmp_path / "a.hdf5", env_args), tmp_path / "run"
    options = {
        "name": "lift",
        "dataset": {"name": "robomimic", "path": str(path)},
        "policy": {"n_obs_steps": 1, "horizon": 4, "n_action_steps": 4},
        "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 1},
        "env": {"max_episode_steps": 6},
        "training": {"total_steps": 2, "batch_size": 4, "warmup_steps": 1, "num_threads": 1},
    }
    config = tmp_path / "lift.yaml"
    config.write_text(json.dumps(options), encoding="utf-8")
    assert main(["train", str(config), "--output", str(run), "--quiet"]) == 0
    command = ["eval", str(run), "--episodes", "2", "--seed-start", "200000", "--json"]
    from lfm_policy.policy import load_policy

    stored = load_policy(run).config.env
    assert stored.id == "lfm/Lift-v0" and stored.max_episode_steps == 6
    assert stored.options["env_args"] == env_args
    capsys.readouterr()
    results = []
    for processes in ("--processes", "--no-processes"):
        assert main([*command, processes]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["config"]["processes"] is (processes == "--processes")
        assert report["config"]["env_options"]["env_args"] == env_args
        results.append(report["cells"][0]["episodes"])
    assert results[0] == results[1]
    assert [episode["steps"] for episode in results[0]] == [6, 6]
