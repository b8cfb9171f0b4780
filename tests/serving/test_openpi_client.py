"""The published openpi-client package against our server.

It wants an older numpy, so it lives in an environment of its own, which
scripts/tools/check_openpi_client.sh makes; another one can be named with LFM_POLICY_OPENPI_PYTHON.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.serving import ApiKeys

SESSION = Path(__file__).with_name("openpi_client_session.py")
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv/openpi-client/bin/python"


@pytest.fixture
def openpi_python() -> str:
    named = os.environ.get("LFM_POLICY_OPENPI_PYTHON")
    if named:
        return named
    if ENVIRONMENT.exists():
        return str(ENVIRONMENT)
    pytest.skip("openpi-client is absent: run scripts/tools/check_openpi_client.sh")


def test_openpi_client_works_unchanged(
    start: Callable[..., Any], toy: Any, openpi_python: str
) -> None:
    port = start(toy, keys=ApiKeys(["robot-key"])).port
    done = subprocess.run(
        [openpi_python, str(SESSION), str(port), "robot-key"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["metadata"]["action_horizon"] == 4
    assert seen["dtype"] == "<f4"
    # Action k is [last state, first state, pixel] plus noise of size 1.
    np.testing.assert_allclose(np.mean(seen["answer"], axis=0), [6, 6, 9], atol=3)
    np.testing.assert_allclose(np.mean(seen["again"], axis=0), [0, 6, 9], atol=3)
    assert seen["timing"] == ["infer_ms"]
    assert seen["reset"] == {"__reset__": True}
    assert seen["steps"] == [[3]] * 5
    assert "['camera'] are missing" in seen["error"]
    np.testing.assert_allclose(np.mean(seen["converted"], axis=0), [6, 6, 9], atol=3)
    assert "exceeds limit of 16777216 bytes" in seen["too_large"]
