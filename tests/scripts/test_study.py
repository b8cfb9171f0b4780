"""The study's scripts: every cell of every table can be made, and every table has its place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.config import load_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture()
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    import pusht_models
    import pusht_sweep

    modules = {"models": pusht_models, "sweep": pusht_sweep}
    for name in ("pieces", "study_tables", "pusht_models", "pusht_sweep"):
        monkeypatch.delitem(sys.modules, name)
    return modules


def test_every_row_names_a_model_that_is_made_once(modules: dict[str, Any]) -> None:
    study = modules["models"]
    order = [model for models in study.ORDER for model in models]
    assert len(order) == len(set(order))
    for part in study.PARTS.values():
        named = [row.model for row in part.rows]
        named += [model for pair in part.compare for model, _ in pair]
        assert set(named) <= set(study.MODELS), part.name
        assert set(named) <= set(order), part.name
    for model in [*study.MODELS.values(), *modules["sweep"].SETTINGS.values()]:
        if model.teacher:
            assert model.teacher in study.MODELS and model.nfe
        else:
            load_config(model.config, list(model.overrides))


def test_every_table_has_its_place_in_the_results(modules: dict[str, Any]) -> None:
    page = (REPOSITORY / "docs" / "results.md").read_text()
    for part in [*modules["models"].PARTS.values(), modules["sweep"].SWEEP]:
        assert page.count(f"<!-- table {part.name} -->\n") == 1
        assert page.count(f"<!-- end {part.name} -->") == 1
        assert f"](results/{part.name}.png)" in page
