"""``lfm-policy download``: what it prints, and its exit codes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from lfm_policy.cli.main import main
from lfm_policy.data.download import locations as download_locations
from lfm_policy.data.download.locations import Location

CONTENT = b"demonstrations"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """One location, where nobody listens, and nobody waits between attempts."""
    here = Location("http://127.0.0.1:9/lift.hdf5", "lift/demo.hdf5", len(CONTENT), SHA256)
    recorded = Location("http://127.0.0.1:9/can.hdf5", "can/demo.hdf5", note="old")
    monkeypatch.setattr(download_locations, "LOCATIONS", {"lift/ph": here, "can/ph": recorded})
    monkeypatch.setattr("time.sleep", lambda _: None)


def put(folder: Path) -> None:
    for name in ("lift", "can"):
        (folder / name).mkdir(parents=True)
        (folder / name / "demo.hdf5").write_bytes(CONTENT)


def test_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path)
    assert main(["download", "lift/ph", "can/ph", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"lift/ph: {tmp_path}/lift/demo.hdf5 (was there)" in printed
    assert f"14 bytes, SHA-256 {SHA256}: as stated officially" in printed
    assert f"SHA-256 {SHA256}: recorded, none is stated" in printed and "note: old" in printed
    assert main(["download", "lift/ph", "--output", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lift/ph"]["sha256"] == SHA256


def test_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "lift/ph", "--output", str(tmp_path), "--quiet"]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.out == ""
    for text in ("http://127.0.0.1:9/lift.hdf5", f"put it at {tmp_path}/lift/demo.hdf5", SHA256):
        assert text in printed.err


def test_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "lift/hp", "--output", str(tmp_path)]) == 2
    assert "did you mean 'lift/ph'" in capsys.readouterr().err
    assert main(["download"]) == 2
    assert "--list" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "--list", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "lift/ph (14 bytes)\n  http://127.0.0.1:9/lift.hdf5" in printed
    assert main(["download", "--list", "--json", "--output", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["can/ph"]["path"] == f"{tmp_path}/can/demo.hdf5"
