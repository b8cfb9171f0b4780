"""The benchmark of delays measures every cell once and says what it found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.simulator

SCRIPTS = Path(__file__).parents[2] / "scripts" / "studies"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("gym_pusht")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import delays

    for name in ("delays", "pieces"):
        monkeypatch.delitem(sys.modules, name)
    return delays


def test_cells_are_measured_once(
    bench: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "delays.json"
    arguments = ["delays", "pusht-state", "--output", str(path), "--episodes", "1"]
    arguments += ["--joinings", "wait", "replace", "--delays", "200"]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    results = json.loads(path.read_text())
    (waiting,), (replacing,) = (cell["episodes"] for cell in results["cells"])
    assert waiting["held"] > 0 == replacing["held"]
    assert replacing["consumed"] > 0 == waiting["consumed"]
    results["cells"][0]["episodes"][0]["score"] = 0.125
    path.write_text(json.dumps(results))
    bench.main()
    assert json.loads(path.read_text()) == results
    assert "wait, 200 ms: 0/1 solved, score 0.125, " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--hz", "20"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "measured with other hz" in capsys.readouterr().err
