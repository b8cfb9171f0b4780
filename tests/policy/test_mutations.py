"""A thousand damaged or hostile checkpoints: each is refused or loads to a policy that works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("mutation_worker.py")
COUNT = 1000


# It takes a minute, beside other work more than three: only what hangs is stopped.
def test_mutated_checkpoints_are_refused_or_load(checkpoint: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, str(WORKER), str(checkpoint), str(work), "0", str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590)
    current = work / "current"
    assert done.returncode == 0, (
        f"the process died at mutation {current.read_text() if current.exists() else '?'}:\n"
        + done.stderr[-3000:]
    )
    result = json.loads(done.stdout)
    for outcome, number in result["outcomes"].items():
        print(f"{number:5d}  {outcome}")
    print(f"slowest: {result['slowest']}, {result['extra_megabytes']:.0f} MB more at the peak")
    assert sum(result["outcomes"].values()) == COUNT
    report = "\n".join(
        f"{failure['number']} ({failure['did']}): {failure['got']}"
        for failure in result["failures"][:10]
    )
    assert not result["failures"], f"{len(result['failures'])} failures:\n{report}"
    assert result["extra_megabytes"] < 500
