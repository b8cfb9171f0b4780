"""The cards of the policies that the package carries say what was measured, and nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from lfm_policy.assets import POLICIES, bundled_policy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "tools"))
    import bundled_cards

    monkeypatch.delitem(sys.modules, "bundled_cards")
    return bundled_cards


@pytest.mark.parametrize("name", POLICIES)
def test_a_card_is_what_its_figures_make(name: str, cards: Any) -> None:
    # Of these very weights: `card_of` refuses figures of others.
    assert (bundled_policy(name) / "README.md").read_text() == cards.card_of(name)


@pytest.mark.parametrize("name", POLICIES)
def test_a_card_says_the_stored_numbers(name: str) -> None:
    text = (bundled_policy(name) / "README.md").read_text()
    (cell,) = json.loads((ROOT / "docs/results/data/bundled.json").read_text())[name]["cells"]
    summary = cell["summary"]
    found = {r.metric_type: r.metric_value for r in ModelCard(text).data.eval_results}
    assert found["success_rate"] == pytest.approx(summary["successes"] / summary["n"], abs=1e-4)
    assert found["score"] == pytest.approx(summary["score"], abs=1e-4)
    assert f"{summary['successes']}/{summary['n']} = " in text
    said = re.findall(r"= \d\.\d{3} \((\d\.\d{3}) to (\d\.\d{3})\)", text)
    assert [[float(x) for x in pair] for pair in said] == [
        [round(x, 3) for x in summary["success_interval"]]
    ]
    rewards = [episode["max_reward"] for episode in cell["episodes"]]
    assert len(rewards) == summary["n"]
    assert sum(rewards) / len(rewards) == pytest.approx(summary["score"], abs=1e-4)
