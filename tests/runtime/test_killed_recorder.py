"""A recording whose process was killed is not lost, and said to be there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lfm_runtime import InputError
from lfm_runtime.control import Recorder
from lfm_runtime.control.result import StepRecord

pytestmark = pytest.mark.slow

KILLED = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_killed_recorder import step
from lfm_runtime.control import Recorder
recorder = Recorder(sys.argv[1], wait=True)
for number in range(5000):
    recorder.step(step(number))
while not list(recorder._folder.glob("data/action/*")):
    time.sleep(0.05)
print("recording", flush=True)
sys.stdin.readline()
"""


def step(number: int) -> StepRecord:
    return StepRecord(
        time=0.1 * number,
        observed=0.1 * number,
        action=np.full(2, number, np.float32),
        obs={"state": np.zeros(3, np.float32)},
        kind=0,
        step=number,
        chunk=0,
        limited=False,
        obs_valid=True,
    )


def test_what_a_killed_recorder_wrote_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "run.zarr"), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "recording\n"
    (folder,) = tmp_path.glob(".tmp-run.zarr-*")
    with pytest.raises(InputError, match=rf"run\.zarr: process {process.pid} on .* is writing"):
        Recorder(tmp_path / "run.zarr")
    assert not caplog.messages
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with Recorder(tmp_path / "run.zarr") as recorder:
        recorder.step(step(0))
    assert (tmp_path / "run.zarr" / "data" / "action" / ".zarray").exists()
    assert list(folder.glob("data/action/*"))
    (message,) = caplog.messages
    assert message == (
        f"{folder}: holds what process {process.pid} on {os.uname().nodename} had written when it "
        "was killed; look at it, and remove it when it is of no use"
    )
