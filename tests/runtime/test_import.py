"""The runtime needs numpy, onnxruntime, msgpack and websockets, and nothing else."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME = REPOSITORY / "runtime"
ALLOWED = {"numpy", "onnxruntime", "msgpack", "websockets"}


def modules() -> list[str]:
    return [
        ".".join(path.relative_to(RUNTIME).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((RUNTIME / "lfm_runtime").rglob("*.py"))
    ]


def test_declared_dependencies() -> None:
    declared = tomllib.loads((RUNTIME / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~ ;\[]", text)[0] for text in declared["dependencies"]}
    assert names == ALLOWED
    assert "optional-dependencies" not in declared
    main = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert any(text.startswith("lfm-policy-runtime") for text in main["dependencies"])


def test_nothing_else_is_imported_at_the_top_of_a_module() -> None:
    allowed = ALLOWED | {"lfm_runtime"} | sys.stdlib_module_names
    for path in (RUNTIME / "lfm_runtime").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in allowed, f"{path} imports {name}"


def test_import_without_torch() -> None:
    blocked = ("torch", "onnx", "lfm_policy", "lfm_envs", "gymnasium", "scipy", "safetensors")
    code = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None
for name in {modules()!r}:
    __import__(name)
import lfm_runtime
lfm_runtime.OnnxPolicy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_a_client_does_not_wait_for_onnx_runtime() -> None:
    code = "import sys, lfm_runtime; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd="/").returncode == 0
