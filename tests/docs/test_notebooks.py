"""The notebooks run from their first cell to the last, as somebody new runs them.

Not in Jupyter, which weighs more than all else that the tests need: their cells are Python, and
what ends a cell is shown as a notebook shows it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

RUNNER = """
import ast, json, sys, time
space = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] != "code":
        continue
    source, began = "".join(cell["source"]), time.process_time()
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell["id"], "exec"), space)
    if last is not None:
        shown = eval(compile(ast.Expression(last.value), cell["id"], "eval"), space)
        if shown is not None:
            html = getattr(shown, "_repr_html_", None)
            print(f"{cell['id']} shows", html()[:60] if html else repr(shown))
    print(f"{cell['id']} took {time.process_time() - began:.1f} s", flush=True)
"""


def run(notebook: Path, folder: Path) -> str:
    """Run all code of a notebook in a folder; returns what it prints."""
    environment = os.environ | {
        "LFM_POLICY_NOTEBOOK": "quick",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "SDL_VIDEODRIVER": "dummy",
    }
    command = [sys.executable, "-W", "ignore", "-c", RUNNER, str(notebook)]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=560
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(notebook: Path) -> None:
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    cells = content["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert isinstance(cell["source"], list) and cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    kinds = [cell["cell_type"] for cell in cells]
    assert kinds[0] == kinds[-1] == "markdown" or notebook.stem == "own_arrays"


@pytest.mark.slow
def test_own_arrays_become_a_policy_that_moves(tmp_path: Path) -> None:
    printed = run(FOLDER / "own_arrays.ipynb", tmp_path)
    assert "Dataset(20 episodes, 500 steps at 10 Hz: joints (7,), target (2,)" in printed
    assert "episode 3: observation 'joints' has 25 steps, the action has 24" in printed
    assert "stopped\nmax_ticks after" in printed or "stopped\ndone after" in printed
    assert (tmp_path / "runs/notebook/reaching-exported/policy.onnx").is_file()
    assert len(list((tmp_path / "runs/notebook/datasets").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.simulator
def test_pusht(tmp_path: Path) -> None:
    printed = run(FOLDER / "pusht.ipynb", tmp_path)
    assert "network evaluations: 16 -> 1" in printed
    assert printed.count("lfm/PushT-v0, n = 2: success") == 3
    assert "shows <video controls" in printed
    assert len(list((tmp_path / "runs/notebook/films").glob("*.mp4"))) == 1
    assert (tmp_path / "runs/notebook/exported/policy.json").is_file()
