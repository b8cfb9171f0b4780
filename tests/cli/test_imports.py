"""What a command imports: seconds of every start, and of every mistake in a configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lfm_policy.cli.main import COMMANDS
from lfm_policy.data.tools.convert import ConvertOptions, convert

pytestmark = pytest.mark.slow

HEAVY = (
    *("torch", "diffusers", "transformers", "accelerate", "zarr", "h5py", "scipy", "matplotlib"),
    *("gymnasium", "pyarrow", "tensorboard", "onnxruntime", "av", "ray", "lfm_policy.training"),
)

PROGRAM = """
import contextlib, io, json, sys
heavy, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for command in commands:
    code = 0
    if command[0] == "__import__":
        __import__(command[1])
    else:
        from lfm_policy.cli.main import main
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                code = main(command)
            except SystemExit as ended:
                code = ended.code
    print(json.dumps([code, [name for name in heavy if name in sys.modules]]))
"""


def imported_one_by_one(commands: Sequence[Sequence[str]], code: int = 0) -> list[set[str]]:
    """Return which heavy modules are imported once each of some commands has ended.

    They run one after the other in one process, and all end with this exit code.
    """
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), json.dumps(commands)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    codes, modules = zip(*map(json.loads, result.stdout.splitlines()), strict=True)
    assert codes == (code,) * len(commands)
    return [set(names) for names in modules]


def imported(*command: str, code: int = 0) -> set[str]:
    """Return which heavy modules are imported once a command has ended, with this exit code."""
    return imported_one_by_one([command], code)[0]


READING = {"zarr", "av"}


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory: pytest.TempPathFactory, small_zarr: Path) -> Path:
    path = tmp_path_factory.mktemp("imports") / "small.hdf5"
    convert(small_zarr, path, ConvertOptions(), quiet=True)
    return path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing(command: str) -> None:
    assert imported(*command.split(), "--help") == set()


@pytest.mark.parametrize(
    "mistake",
    [
        ("train", "misspelt/config"),
        ("train", "pusht/lfm3", "trainin.x=1"),
        ("train", "pusht/lfm3_unet", "network.kernel=3"),
        ("train", "pusht/image_lfm", "encoder.image.widht=3"),
        ("demo", "trainin.x=1"),
        ("download", "pusth"),
        ("inspect", "nowhere"),
        ("init", "nowhere"),
    ],
    ids=" ".join,
)
def test_mistakes_are_said_without_torch(mistake: tuple[str, ...]) -> None:
    assert imported(*mistake, code=2) <= READING


def test_reading_demonstrations_needs_no_torch(
    small_zarr: Path, hdf5: Path, tmp_path: Path
) -> None:
    assert imported("download", "--list", code=0) == set()
    assert imported("inspect", str(small_zarr), code=0) <= READING
    assert imported("inspect", str(hdf5), code=0) <= {*READING, "h5py"}
    target = str(tmp_path / "small.hdf5")
    assert imported("convert", str(small_zarr), target, code=0) <= {*READING, "h5py"}
    target = str(tmp_path / "small.zarr")
    assert imported("convert", str(hdf5), target, code=0) <= {*READING, "h5py"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("lfm_policy", set()),
        ("lfm_policy.config", set()),
        ("lfm_policy.flow", set()),
        ("lfm_policy.distillation.methods", set()),
        ("lfm_policy.training", {"torch", "accelerate", "lfm_policy.training"}),
    ],
)
def test_packages_import_what_they_need(module: str, allowed: set[str]) -> None:
    assert imported("__import__", module) <= allowed


def test_what_runs_policies_imports_no_training() -> None:
    # The policy is loaded, and then asked for a solver that there is not. All in one process, as
    # torch takes seconds: the first one that imports too much is found, and torch by the first.
    commands = [[name, "pusht-state", "--solver", "eulr"] for name in ("serve", "eval", "control")]
    for found in imported_one_by_one(commands, code=2):
        assert "torch" in found and "lfm_policy.training" not in found
