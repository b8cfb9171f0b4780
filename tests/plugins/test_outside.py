"""One of each kind outside the package, as docs/extending.md shows it: code and commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from snippets.stand_ins import robot

from lfm_runtime import OnnxPolicy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

# All commands in one process, each with what it printed: every start of Python costs seconds.
RUN = """
import contextlib, io, json, shlex, sys
from lfm_policy.cli.main import main

printed = {}
for line in sys.stdin.read().splitlines():
    arguments = shlex.split(line)[1:]
    quiet = [] if arguments[0] == "export" else ["--json"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main([*arguments, *quiet])
    print(json.dumps([code, out.getvalue()]), flush=True)
"""

LOAD = """
import contextlib, io, json, sys
import numpy as np
import lfm_policy

results = {}
try:
    lfm_policy.load_policy("student")
except lfm_policy.InputError as error:
    results["without"] = str(error)
results["imported"] = "reach" in sys.modules
from lfm_runtime import OnnxPolicy

obs = {"goal": np.float32([0.5, 0.5]), "hand": np.float32([-0.5, 0.0])}
exported = OnnxPolicy("exported")
exported.sample_seed(0)
results["export without"] = np.asarray(exported.select_action(obs)).tolist()
lfm_policy.load_plugin("reach")
from lfm_policy.inspection.checkpoint import inspect_checkpoint
found = inspect_checkpoint("student")
results["inspected"] = found.to_dict()["plugins"]
with contextlib.redirect_stdout(io.StringIO()) as out:
    found.print()
results["said"] = out.getvalue()
policy = lfm_policy.load_policy("student")
policy.sample_seed(0)
results["with"] = np.asarray(policy.select_action(obs)).tolist()
print(json.dumps(results))
"""


def block(language: str, first_line: str) -> str:
    """Return the code of the page that begins so."""
    found = re.findall(rf"```{language}\n({re.escape(first_line)}.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1
    return found[0]


def python(code: str, folder: Path, text: str = "") -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "reach.py").write_text(block("python", "# reach.py"), encoding="utf-8")
    (folder / "reach.yaml").write_text(block("yaml", "# reach.yaml"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, dict]:
    """What each command of the page printed, by its name and first argument."""
    commands = block("bash", "lfm-policy collect Reach")
    lines = python(RUN, folder, commands).splitlines()
    results = {}
    for command, line in zip(commands.splitlines(), lines, strict=True):
        code, out = json.loads(line)
        assert code == 0, (command, out)
        name = " ".join(command.split()[1:3])
        results[name] = json.loads(out) if out.startswith(("{", "[")) else {}
    return results


def test_data_of_an_outside_expert_and_format(printed: dict[str, dict]) -> None:
    assert printed["collect Reach"]["demos"] == 20
    assert printed["convert demos.hdf5"]["target_format"] == "reach"
    inspected = printed["inspect demos.reach"]
    assert inspected["format"] == "reach" and inspected["episodes"] == 20
    assert set(inspected["arrays"]) == {"action", "goal", "hand"}


def test_an_outside_policy_learns_an_outside_task(printed: dict[str, dict]) -> None:
    training = printed["train reach.yaml"]["training"]
    assert training["complete"] and training["steps"] == 600
    evaluated = printed["eval runs/reach"]
    assert evaluated["config"]["env_id"] == "my/Reach-v0"
    assert evaluated["cells"][0]["summary"]["successes"] >= 8
    # Each environment in a process of its own, which loads the plugin by itself.
    student = printed["eval student"]
    assert student["config"]["processes"] is True
    assert student["cells"][0]["summary"]["successes"] >= 5
    assert student["cells"][0]["nfe"] == 1


def test_a_network_alone(tmp_path: Path) -> None:
    (tmp_path / "my_network.py").write_text(block("python", "# my_network.py"), encoding="utf-8")
    robot(tmp_path / "my_robot.hdf5")
    train, export = block("bash", "lfm-policy train own/state").splitlines()
    # Few steps and few evaluations, of which each is traced.
    python(RUN, tmp_path, f"{train} training.total_steps=6\n{export} --nfe 3")
    policy = OnnxPolicy(tmp_path / "exported")
    obs = {key: np.zeros(shape, np.float32) for key, shape in policy.spec.obs_shapes.items()}
    assert np.isfinite(policy.select_action(obs)).all()


def test_an_outside_robot(printed: dict[str, dict]) -> None:
    (outcome,) = printed["control exported"]
    assert outcome["reason"] == "done" and outcome["success"] is True
    assert 2 <= outcome["steps"] <= 40


def test_a_checkpoint_names_its_plugins_and_imports_none(
    printed: dict[str, dict], folder: Path
) -> None:
    (checkpoint,) = (folder / "student" / "checkpoints").glob("final*")
    content = json.loads((checkpoint / "config.json").read_text())
    assert content["plugins"] == {
        "reach": {
            "dataset format": ["reach"],
            "encoder": ["difference"],
            "network": ["two_layers"],
            "distillation method": ["absolute"],
        }
    }
    results = json.loads(python(LOAD, folder))
    assert "needs the plugin 'reach' (dataset format 'reach', encoder" in results["without"]
    assert "add --plugin reach (or the path of its file), or call" in results["without"]
    assert "lfm_policy.load_plugin('reach')" in results["without"]
    assert results["imported"] is False
    assert results["inspected"] == content["plugins"]
    assert "needs plugin reach: dataset format reach; encoder difference; " in results["said"]
    assert results["with"] == pytest.approx(results["export without"], abs=1e-5)
