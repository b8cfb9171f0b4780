"""What is said when robosuite cannot be used, and that its import leaves no traces."""

from __future__ import annotations

import importlib.metadata
import os
import random
import subprocess
import sys

import lfm_envs
import numpy as np
import pytest
from lfm_envs.checks import version_numbers
from lfm_envs.robosuite import simulator as robosuite_simulator
from lfm_envs.robosuite.simulator import seeded

pytestmark = pytest.mark.simulator


@pytest.mark.parametrize(
    "versions, message",
    [
        ({"robosuite": "1.4.1", "mujoco": "3.3.0"}, "needs robosuite 1.5 .*1.4.1 is installed"),
        ({"robosuite": "1.5.1", "mujoco": "3.4.0"}, "MuJoCo older than 3.4 .*3.4.0 is installed"),
    ],
)
def test_versions_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(robosuite_simulator.importlib, "import_module", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    with pytest.raises(lfm_envs.MissingSimulatorError, match=message):
        robosuite_simulator.import_robosuite.__wrapped__()


def test_a_missing_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"no module {name}")

    monkeypatch.setattr(robosuite_simulator.importlib, "import_module", fail)
    with pytest.raises(lfm_envs.MissingSimulatorError, match=r"pip install .*\[robosuite\]"):
        robosuite_simulator.import_robosuite.__wrapped__()


def test_numbers_of_versions() -> None:
    assert version_numbers("1.5.1rc2") == (1, 5, 1)
    assert version_numbers("dev") == ()


def test_seeded_puts_the_generators_back() -> None:
    np.random.seed(1)
    random.seed(1)
    expected = np.random.random(), random.random()
    np.random.seed(1)
    random.seed(1)
    with seeded(5):
        first = np.random.random(), random.random()
    with seeded(5):
        assert (np.random.random(), random.random()) == first
    assert (np.random.random(), random.random()) == expected


@pytest.mark.parametrize("chosen", [None, "osmesa"])
def test_the_import_is_quiet_and_leaves_the_environment_alone(chosen: str | None) -> None:
    pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")
    environment = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    if chosen is not None:
        environment["MUJOCO_GL"] = chosen
    code = (
        "import os; from lfm_envs.robosuite.simulator import import_robosuite; "
        "import_robosuite(); print(os.environ.get('MUJOCO_GL'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if chosen is not None and done.returncode:
        assert "MissingSimulatorError" in done.stderr  # there is no OSMesa here
        return
    assert (done.stdout.strip(), done.stderr) == (str(chosen), "")
