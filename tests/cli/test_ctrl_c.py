"""Ctrl-C at any moment: no traceback, one exit code, no processes that are left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from lfm_policy.cli.ctrl_c import raised_by_ctrl_c
from lfm_policy.cli.main import EXIT_CTRL_C

pytestmark = pytest.mark.slow

ENTRY = "from lfm_policy.cli.main import entry_point; entry_point()"

# Presses Ctrl-C when a module is imported, before or after it was executed.
AT_IMPORT = """
import importlib.abc, importlib.machinery, os, signal, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
        return None

sys.meta_path.insert(0, Finder())
"""


def run(code: str, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("argparse", ["--help"]),
        ("lfm_policy.cli.policies.evaluate", ["eval", "pusht-state"]),
        ("torch", ["eval", "pusht-state"]),
        ("lfm_policy.config.schema", ["serve", "pusht-state"]),
        ("lfm_policy.serving", ["serve", "pusht-state"]),
        ("lfm_policy.evaluation.recording", ["eval", "pusht-state"]),
        ("lfm_policy.config.describe", ["train", "pusht/fm"]),
        ("lfm_policy.inspection", ["inspect", "."]),
    ],
)
def test_while_it_imports(module: str, arguments: list[str]) -> None:
    done = run(AT_IMPORT.format(module=module) + ENTRY, *arguments)
    assert done.returncode == EXIT_CTRL_C
    assert done.stderr == "interrupted\n" and not done.stdout


def test_what_cannot_be_raised_comes_again() -> None:
    """As in the callbacks of weak references, where Python prints a traceback and goes on."""
    code = """
        import os, signal, time
        from lfm_policy.cli.data import inspect

        class Lost:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0)

        def run(arguments):
            Lost()
            time.sleep(60)
            return 0

        inspect.run = run
    """
    done = run(textwrap.dedent(code) + ENTRY, "inspect", ".")
    assert done.returncode == EXIT_CTRL_C and done.stderr == "interrupted\n"


def test_after_the_command() -> None:
    code = """
        import atexit, os, signal, time
        from lfm_policy.cli.data import inspect

        def late():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

        def run(arguments):
            atexit.register(late)
            print("done")
            return 0

        inspect.run = run
    """
    done = run(textwrap.dedent(code) + ENTRY, "inspect", ".")
    assert done.returncode == EXIT_CTRL_C and not done.stderr and done.stdout == "done\n"


def test_importing_the_command_imports_nothing_that_takes_time() -> None:
    code = "import lfm_policy.cli.main, sys; print(*sys.modules)"
    before = set(run("import sys; print(*sys.modules)").stdout.split())
    loaded = set(run(code).stdout.split()) - before
    assert loaded == {"lfm_policy", "lfm_policy.cli", "lfm_policy.cli.main", "lfm_policy.version"}


def test_errors_that_come_of_it() -> None:
    def interrupted(kind: type[Exception], *, on_purpose: bool = False) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            if on_purpose:
                raise kind("stopped") from None
            raise kind("while a class was made") from error

    for kind in (RuntimeError, ImportError, OSError):
        with pytest.raises(KeyboardInterrupt), raised_by_ctrl_c():
            interrupted(kind)
        with pytest.raises(KeyboardInterrupt), raised_by_ctrl_c():
            try:
                raise KeyboardInterrupt
            finally:
                interrupted(kind)
        with pytest.raises(kind, match="stopped"), raised_by_ctrl_c():
            interrupted(kind, on_purpose=True)
    with pytest.raises(ValueError, match="of its own"), raised_by_ctrl_c():
        raise ValueError("of its own")
    with raised_by_ctrl_c():
        pass


SLOW = """
import os, time
import gymnasium as gym
import numpy as np

SHAPES = {"agent_pos": 2, "block_pose": 4, "keypoints": 16}

class Slow(gym.Env):
    observation_space = gym.spaces.Dict(
        {key: gym.spaces.Box(-1e3, 1e3, (n,), np.float32) for key, n in SHAPES.items()}
    )
    action_space = gym.spaces.Box(-1e3, 1e3, (2,), np.float32)

    def _obs(self):
        return {key: np.zeros(n, np.float32) for key, n in SHAPES.items()}

    def reset(self, *, seed=None, options=None):
        open(f"reset-{os.getpid()}", "w").close()
        return self._obs(), {}

    def step(self, action):
        open(f"step-{os.getpid()}", "w").close()
        time.sleep(0.2)
        return self._obs(), 0.0, False, False, {}

gym.register("Slow-v0", entry_point=Slow)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")
def test_the_whole_group_while_environments_run_in_processes(tmp_path: Path) -> None:
    """As a terminal does: every process is sent the signal at once."""
    (tmp_path / "slow.py").write_text(SLOW)
    options = ["--env", "slow:Slow-v0", "--processes", "--num-envs", "2", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, "eval", "pusht-state", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + 200
        while len(list(tmp_path.glob("step-*"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == EXIT_CTRL_C
    assert error == "interrupted\n" and not out
    psutil.wait_procs(children, timeout=20)
    assert not [child for child in children if child.is_running()]
