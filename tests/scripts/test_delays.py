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

    for name in ("delays", "pieces", "results_page", "study_tables"):
        monkeypatch.delitem(sys.modules, name)
    return delays


def test_cells_are_measured_once(
    bench: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["delays", "pusht-state", "--output", str(tmp_path), "--episodes", "1"]
    arguments += ["--joinings", "wait", "replace", "--delays", "200"]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    path = tmp_path / "delays.json"
    results = json.loads(path.read_text())
    (waiting,), (replacing,) = (cell["episodes"] for cell in results["cells"])
    assert waiting["held"] > 0 == replacing["held"]
    assert replacing["consumed"] > 0 == waiting["consumed"]
    results["cells"][0]["episodes"][0]["score"] = 0.125
    path.write_text(json.dumps(results))
    bench.main()
    assert "| 200 | stand still and wait |" in capsys.readouterr().out
    assert "| 0.125 |" in (tmp_path / "delays.md").read_text()
    assert (tmp_path / "delays.png").stat().st_size > 1000
    monkeypatch.setattr(sys, "argv", [*arguments, "--hz", "20"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "measured with other hz" in capsys.readouterr().err
