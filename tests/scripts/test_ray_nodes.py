"""A cluster of two nodes, one of which is killed, gives what this machine alone gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.simulator, pytest.mark.ray, pytest.mark.slow]

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tools" / "ray_nodes.py"


def test_a_killed_node_loses_no_episode() -> None:
    pytest.importorskip("ray", reason="the runner 'ray' needs the extra 'ray'")
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    few = ["--episodes", "8", "--max-episode-steps", "20"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "pusht-state", *few],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed the node of process" in done.stdout
    assert "8 episodes on two nodes: the same as on this machine; 4 began again" in done.stdout
