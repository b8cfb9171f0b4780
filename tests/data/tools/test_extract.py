"""Observations of recorded states."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.data.tools import extract as module
from lfm_policy.data.tools.extract import ExtractOptions, extract
from lfm_policy.errors import InputError

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")

STEPS = 5


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[Any]]]:
    """A raw recording as robosuite writes it, and what was observed meanwhile."""
    from lfm_envs.robosuite.env import RobosuiteEnv

    path = tmp_path_factory.mktemp("raw") / "demo.hdf5"
    env = RobosuiteEnv("Lift")
    kwargs = env.env_args["env_kwargs"]
    kept = ("robots", "controller_configs")
    info = {"env_name": "Lift", **{key: kwargs[key] for key in kept}}
    observed = []
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env"], data.attrs["env_info"] = "Lift", json.dumps(info)
        data.attrs["repository_version"] = "1.5.1"
        for name, seed in (("demo_1", 3), ("demo_2", 4)):
            obs, _ = env.reset(seed=seed)
            actions = np.random.default_rng(seed).uniform(-1, 1, (STEPS, 7))
            states, seen = [], []
            model = env.state()["model"]
            for action in actions:
                states.append(env.state()["states"])
                seen.append(obs)
                obs, *_ = env.step(action)
            demo = data.create_group(name)
            demo["states"], demo["actions"] = np.stack(states), actions
            demo.attrs["model_file"] = model
            observed.append(seen)
    env.close()
    return path, observed


def edited(recorded: tuple[Path, Any], tmp_path: Path) -> tuple[Path, h5py.File]:
    path = tmp_path / "edited.hdf5"
    shutil.copy(recorded[0], path)
    return path, h5py.File(path, "r+")


def test_what_was_observed_is_extracted(recorded: Any, tmp_path: Path) -> None:
    source, observed = recorded
    done = extract(source, tmp_path / "low_dim.hdf5")
    assert done.demos == {"demo_1": STEPS, "demo_2": STEPS} and done.solved == ()
    assert done.shapes["object"] == (10,)
    with RobomimicFile(done.target) as file, RobomimicFile(source) as raw:
        assert file.env_args() == done.env_args
        assert file.filters.select("train") + file.filters.select("valid") in (
            ("demo_1", "demo_2"),
            ("demo_2", "demo_1"),
        )
        for demo, seen in zip(file.demos, observed, strict=True):
            assert file.text(demo, "model_file") == raw.text(demo, "model_file")
            for key in seen[0]:
                info = file.info([demo], f"obs/{key}", [STEPS], ranks=(2,))
                values = file.read([demo], f"obs/{key}", [STEPS], info)
                np.testing.assert_array_equal(values, np.stack([obs[key] for obs in seen]))
            for key in ("states", "actions"):
                info = raw.info([demo], key, [STEPS], ranks=(2,))
                np.testing.assert_array_equal(
                    file.read([demo], key, [STEPS], info), raw.read([demo], key, [STEPS], info)
                )
    with h5py.File(done.target) as file:
        assert file["data/demo_1/rewards"][:].tolist() == [0.0] * STEPS
        assert file["data/demo_1/dones"][:].tolist() == [0] * (STEPS - 1) + [1]


def test_success_is_rewarded(recorded: Any, tmp_path: Path) -> None:
    path, file = edited(recorded, tmp_path)
    height = 1 + 9 + 2  # time, seven joints and two fingers, and z of the cube
    file["data/demo_1/states"][-1, height] += 0.3
    file["mask/hard"] = np.array([b"demo_1"])
    file.close()
    done = extract(path, tmp_path / "out.hdf5", ExtractOptions(max_demos=1))
    assert done.solved == ("demo_1",)
    with h5py.File(done.target) as file:
        assert list(file["mask"]) == ["hard"]
        assert file["data/demo_1/rewards"][:].tolist() == [0.0] * (STEPS - 2) + [1.0, 1.0]


def test_an_interrupted_extraction_goes_on(
    recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = recorded
    target = tmp_path / "low_dim.hdf5"
    replay, replayed = module._replay, []

    def interrupted(env: Any, file: Any, demo: str, length: int) -> Any:
        replayed.append(demo)
        if replayed == ["demo_1", "demo_2"]:
            raise KeyboardInterrupt
        return replay(env, file, demo, length)

    monkeypatch.setattr(module, "_replay", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(source, target)
    assert not target.exists()
    with pytest.raises(InputError, match="recorded with rendering 'fast', now it is 'full'"):
        extract(source, target, ExtractOptions(rendering="full"))
    extract(source, target)
    assert replayed == ["demo_1", "demo_2", "demo_2"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["low_dim.hdf5"]


def test_the_command_tells_what_it_wrote(
    recorded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "low_dim.hdf5"
    command = ["extract", str(recorded[0]), str(target), "--max-demos", "1", "--quiet"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "Lift: 1 demos, 5 steps, 0 end solved" in printed.out and printed.err == ""
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    # What was extracted can be extracted again, in full.
    assert main(["extract", str(target), str(tmp_path / "again.hdf5"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["demos"] == {"demo_1": STEPS} and report["observations"]["object"] == [10]


def test_images_are_drawn_on_request(recorded: Any, tmp_path: Path) -> None:
    import lfm_envs
    from lfm_envs.robosuite import cameras as robosuite_cameras

    try:
        robosuite_cameras._open_window(8, 8).free()
    except lfm_envs.MissingSimulatorError as error:
        pytest.skip(str(error))
    options = ExtractOptions(images=True, image_size=24, max_demos=1)
    done = extract(recorded[0], tmp_path / "image.hdf5", options)
    assert done.shapes["agentview_image"] == done.shapes["robot0_eye_in_hand_image"] == (24, 24, 3)
    assert done.env_args["env_kwargs"]["camera_heights"] == 24
    assert done.env_args["lfm_envs"] == {"rendering": "fast"}


def bad_files() -> dict[str, tuple[Any, str]]:
    def drop(name: str) -> Any:
        def change(file: h5py.File) -> None:
            del file["data"].attrs[name]

        return change

    def attribute(name: str, value: str) -> Any:
        def change(file: h5py.File) -> None:
            file["data"].attrs[name] = value

        return change

    def info(**changes: Any) -> Any:
        def change(file: h5py.File) -> None:
            old = json.loads(file["data"].attrs["env_info"])
            file["data"].attrs["env_info"] = json.dumps(old | changes)

        return change

    def replace(name: str, value: np.ndarray) -> Any:
        def change(file: h5py.File) -> None:
            del file[name]
            file[name] = value

        return change

    def no_model(file: h5py.File) -> None:
        del file["data/demo_1"].attrs["model_file"]

    def other_model(file: h5py.File) -> None:
        file["data/demo_1"].attrs["model_file"] = "<mujoco/>"

    return {
        "no description": (drop("env_info"), "env_args'.* is absent"),
        "no JSON": (attribute("env_info", "{"), "env_info'.* does not parse as JSON"),
        "no object": (attribute("env_info", "[]"), "env_kwargs"),
        "unknown task": (attribute("env", "Lfit"), "cannot create 'Lfit'"),
        "old controller": (
            info(controller_configs={"type": "IK_POSE"}),
            "controller 'IK_POSE' means something else",
        ),
        "states": (replace("data/demo_1/states", np.zeros((STEPS, 3))), "demo_1.*shape .3,."),
        "short states": (replace("data/demo_1/states", np.zeros((2, 32))), "states has 2 steps"),
        "actions": (replace("data/demo_1/actions", np.zeros((STEPS, 6))), "demo_1: actions have"),
        "no model": (no_model, "demo_1 has no attribute model_file"),
        "other model": (other_model, "demo_1: the recorded model cannot be loaded"),
    }


@pytest.mark.parametrize("name", list(bad_files()))
def test_bad_recordings_are_refused(recorded: Any, tmp_path: Path, name: str) -> None:
    change, message = bad_files()[name]
    path, file = edited(recorded, tmp_path)
    change(file)
    file.close()
    with pytest.raises(InputError, match=message):
        extract(path, tmp_path / "out.hdf5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["edited.hdf5"]
