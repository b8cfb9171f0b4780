"""`python -m lfm_runtime.benchmark` times exports with nothing but the runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lfm_policy.policy import Policy
from lfm_runtime.benchmark import main, processor, timed

pytestmark = pytest.mark.slow


def test_an_export_is_timed_in_processes_of_its_own(
    exported: tuple[Policy, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    arguments = [str(exported[1]), "--processes", "2", "--chunks", "5", "--json", str(path)]
    assert main(arguments) == 0
    (found,) = json.loads(path.read_text())["rows"]
    assert (found["folder"], found["policy"], found["nfe"]) == ("small", "small", 4)
    assert (found["chunks"], found["processes"], found["threads"]) == (10, 2, 1)
    assert 0 < found["median_ms"] <= found["p95_ms"]
    assert found["import_seconds"] < found["first_action_seconds"]
    assert found["first_action_seconds"] <= found["slowest_first_action_seconds"]
    assert found["computer"]["processor"] and found["computer"]["cpus"] > 0
    said = capfd.readouterr().out
    assert f"{found['median_ms']:.2f} ms median" in said
    assert f"{found['first_action_seconds']:.2f} s from import" in said


def test_what_is_no_export_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "not an exported policy" in captured.err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--chunks", "0"])
    assert "0 is less than 1" in capfd.readouterr().err


def test_help_needs_no_onnx_runtime() -> None:
    code = (
        "import sys; from lfm_runtime.benchmark import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_calls_are_warmed_up_and_counted() -> None:
    calls: list[int] = []
    assert len(timed(lambda: calls.append(1), 40)) == 40
    assert len(calls) == 44


def test_the_name_of_a_processor(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel\t\t: 85\nmodel name\t: Fast CPU @ 2 GHz\n\nflags : a b\n")
    assert processor(file) == "Fast CPU @ 2 GHz"
    file.write_text("processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 5 Model B\n")
    assert processor(file) == "Raspberry Pi 5 Model B"
    assert processor(tmp_path / "absent")
