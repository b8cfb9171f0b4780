"""What a command imports: seconds of every start, and of every mistake in a configuration."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "diffusers", "transformers", "accelerate", "zarr", "h5py", "scipy", "matplotlib"),
    *("gymnasium", "pyarrow", "tensorboard", "onnxruntime", "av", "ray", "lfm_policy.training"),
)

PROGRAM = """
import contextlib, io, json, sys
heavy, command = json.loads(sys.argv[1]), json.loads(sys.argv[2])
if command[0] == "import":
    __import__(command[1])
else:
    from lfm_policy.cli.main import main
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(command)
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def imported(*command: str) -> set[str]:
    """Return which heavy modules are imported once a command has ended."""
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), json.dumps(command)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(result.stdout))


@pytest.mark.parametrize("command", ["", "train", "eval", "serve", "control", "inspect", "convert"])
def test_help_imports_nothing(command: str) -> None:
    assert imported(*command.split(), "--help") == set()


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (("import", "lfm_policy"), set()),
        (("import", "lfm_policy.training"), {"torch", "accelerate", "lfm_policy.training"}),
        (("import", "lfm_policy.distill.methods"), set()),
        (("download", "--list"), {"torch"}),
        (("train", "pusht/fm", "flow.n_block=3"), {"torch"}),
    ],
    ids=["package", "training", "distillation methods", "download", "misspelt option"],
)
def test_commands_import_what_they_need(command: tuple[str, ...], allowed: set[str]) -> None:
    assert imported(*command) <= allowed
