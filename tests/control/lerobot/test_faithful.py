"""What stands for LeRobot in these tests is to their subject what LeRobot is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import REAL, STAND_IN


def interface(*path: Path) -> dict[str, Any]:
    """Return what LeRobot is, looked for on this path before the usual one."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path])}
    program = [sys.executable, str(Path(__file__).with_name("interface.py"))]
    printed = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert printed.returncode == 0, printed.stderr
    return json.loads(printed.stdout.splitlines()[-1])


@pytest.mark.skipif(not REAL, reason="lerobot is not installed")
@pytest.mark.skipif(
    importlib.util.find_spec("scservo_sdk") is None, reason="lerobot[feetech] is not installed"
)
def test_the_stand_in_is_like_the_real_one() -> None:
    assert interface(STAND_IN) == interface()


def test_the_stand_in_makes_and_refuses_what_it_should() -> None:
    made = interface(STAND_IN)["made"]
    assert [isinstance(of, dict) for of in made] == [True] * 3 + [False] * 6
    assert made[3:] == ["DecodingError"] * 5 + ["ParsingError"]
    assert made[2]["observes"]["wrist"] == [480, 640, 3]
