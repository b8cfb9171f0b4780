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
    import robomimic_table

    modules = {"models": pusht_models, "sweep": pusht_sweep, "robomimic": robomimic_table}
    for name in ("pieces", "study_tables", "pusht_models", "pusht_sweep", "robomimic_table"):
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


def test_the_table_of_seconds_has_every_model_of_the_study(modules: dict[str, Any]) -> None:
    study = modules["models"]
    named = [row.model for part in study.STUDY for row in study.PARTS[part].rows]
    rows = [row.model for row in study.PARTS["wall-clock"].rows]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(named)


def test_every_table_has_its_place_in_the_results(modules: dict[str, Any]) -> None:
    page = (REPOSITORY / "docs" / "results.md").read_text()
    parts = [*modules["models"].PARTS.values(), modules["sweep"].SWEEP]
    for part in [*parts, modules["robomimic"].LEARNING]:
        assert page.count(f"<!-- table {part.name} -->\n") == 1
        assert page.count(f"<!-- end {part.name} -->") == 1
        assert f"](results/{part.name}.png)" in page


def test_models_of_every_robomimic_task_can_be_made(modules: dict[str, Any]) -> None:
    script = modules["robomimic"]
    for task, (_, steps, _) in script.TASKS.items():
        models = script.models_of(task)
        for family in ("fm", "lfm"):
            whole = models[f"{task}-{family}"]
            assert load_config(whole.config, list(whole.overrides)).training.total_steps == steps
            third = models[f"early-{task}-{family}"]
            config = load_config(third.config, list(third.overrides))
            assert config.training.total_steps == steps // 3
        assert all(model.teacher in models for model in models.values() if model.teacher)
    named = {row.model for row in script.LEARNING.rows}
    assert named <= set(script.models_of("square"))
