from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.collect import CollectError, CollectOptions, collect
from lfm_policy.collect.collect import ATTRIBUTE, _kept, _next_seed
from lfm_policy.collect.workers import attempt
from lfm_policy.data.robomimic.demos import DemoRecording
from lfm_policy.errors import InputError

pytestmark = pytest.mark.simulator

_FEW = CollectOptions("Lift", episodes=3, seed_start=10)


def test_the_first_successes_are_kept() -> None:
    assert _kept({10, 12, 13, 14}, {11}, _FEW) == [10, 12, 13]


def test_nothing_is_kept_while_an_earlier_seed_is_open() -> None:
    assert _kept({10, 12, 13, 14}, set(), _FEW) is None
    assert _kept({10, 12}, {11}, _FEW) is None


def test_the_next_seed_fills_gaps_first() -> None:
    assert _next_seed({10, 12, 13}, set(), _FEW) == 11
    assert _next_seed({10, 12}, {11}, _FEW) == 13
    assert _next_seed(set(), set(), _FEW) == 10


def test_no_more_episodes_than_needed_are_started() -> None:
    assert _next_seed({10, 12, 13}, {11}, _FEW) is None


def test_too_many_failures_end_it() -> None:
    failed = set(range(10, 10 + _FEW.max_attempts))
    with pytest.raises(CollectError, match="Lift: 50 of 50 episodes failed"):
        _next_seed(set(), failed, _FEW)


def test_a_file_that_was_not_collected_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.hdf5"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="mine.hdf5 exists already"):
        collect(path, _FEW)
    assert path.read_bytes() == b"precious"


def test_a_recording_is_not_continued_with_other_options(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    DemoRecording(path, _FEW.facts()).skip(10)
    with pytest.raises(InputError, match="recorded with seed 0, now it is 1"):
        collect(path, CollectOptions("Lift", episodes=3, seed_start=10, seed=1))


@pytest.fixture(scope="module")
def two_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two demos of Lift by two workers."""
    pytest.importorskip("robosuite")
    path = tmp_path_factory.mktemp("collect") / "lift.hdf5"
    command = f"collect Lift --episodes 2 --workers 2 --quiet --verify --output {path}"
    assert main(command.split()) == 0
    return path


def test_the_layout_is_robomimics(two_demos: Path) -> None:
    with h5py.File(two_demos) as file:
        data = file["data"]
        assert sorted(data) == ["demo_0", "demo_1"]
        env_args = json.loads(data.attrs["env_args"])
        assert (env_args["env_name"], env_args["type"]) == ("Lift", 1)
        assert json.loads(data.attrs[ATTRIBUTE])["episodes"] == 2
        names = [name.decode() for key in ("train", "valid") for name in file[f"mask/{key}"]]
        assert sorted(names) == ["demo_0", "demo_1"]
        total = 0
        for number, demo in enumerate(data.values()):
            steps = demo.attrs["num_samples"]
            total += steps
            assert demo.attrs["seed"] == 300_000 + number
            assert demo.attrs["model_file"].startswith("<mujoco")
            assert demo["actions"].shape == (steps, 7)
            assert np.abs(demo["actions"][()]).max() <= 1
            assert demo["states"].shape[0] == steps
            assert demo["obs/object"].shape == (steps, 10)
            assert 30 < steps < 100
            assert 6 <= demo["rewards"][()].sum() <= 11
            assert demo["dones"][-1] == 1
        assert data.attrs["total"] == total


def test_our_reader_takes_it(two_demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(two_demos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "robomimic"


def test_going_on_gives_the_same_file(two_demos: Path, tmp_path: Path) -> None:
    # The first demo is there already, as after an interruption; one worker makes the other.
    options = CollectOptions("Lift", episodes=2, verify=True)
    path = tmp_path / "lift.hdf5"
    assert attempt(path, options, 300_000)
    done = collect(path, options, workers=1)
    assert (done.demos, done.attempts) == (2, 2)
    assert not (tmp_path / "lift.hdf5.parts").exists()
    with h5py.File(two_demos) as first, h5py.File(path) as second:
        assert dict(first["data"].attrs) == dict(second["data"].attrs)
        for name, demo in first["data"].items():
            other = second["data"][name]
            assert dict(demo.attrs) == dict(other.attrs)
            for key in ("actions", "states", "rewards", "dones", "obs/object"):
                np.testing.assert_array_equal(demo[key][()], other[key][()])


def test_a_complete_file_is_not_collected_again(two_demos: Path) -> None:
    before = two_demos.stat().st_mtime_ns
    done = collect(two_demos, CollectOptions("Lift", episodes=2, verify=True))
    assert (done.demos, done.success_rate) == (2, 1.0)
    assert two_demos.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="collected with episodes 2, now it is 3"):
        collect(two_demos, CollectOptions("Lift", episodes=3, verify=True))


def test_an_unknown_task_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "Lif", "--output", str(tmp_path / "a.hdf5")]) == 2
    assert "did you mean 'Lift'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
