"""Benchmarks write what the pages of results are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.config import load_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "results" / "data"


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    import latency

    monkeypatch.delitem(sys.modules, "latency")
    return latency


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    import server

    for name in ("server", "malformed_messages"):
        monkeypatch.delitem(sys.modules, name)
    return server


def test_latencies_are_measured_in_processes_of_their_own(
    latency: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [latency.Row("two steps", "ours", "pusht-state", 2, repeats=3)]
    rows += [latency.Row("none", "ours", "no-such-policy", repeats=3)]
    monkeypatch.setattr(latency, "rows_of_table", lambda _: rows)
    monkeypatch.setattr(sys, "argv", ["latency", "--threads", "1", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="not measured: none, eager"):
        latency.main()
    written = json.loads((tmp_path / "latency.json").read_text())
    (row,) = written["rows"]
    assert (row["label"], row["threads"], row["nfe"]) == ("two steps", 1, 2)
    assert 0 < row["median_ms"] <= row["p95_ms"]
    assert row["parameters"] == 1_326_016
    assert written["computer"]["processor"]
    assert latency.described(row).startswith("two steps, eager, 2 evaluation(s), 1 thread(s): ")


def test_some_rows_are_measured_again_and_the_others_kept(
    latency: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(label: str, **changes: Any) -> dict[str, Any]:
        return {"label": label, "engine": "eager", "threads": 1, "median_ms": 9e9} | changes

    before = [row("two steps"), row("two steps", threads=2), row("another")]
    (tmp_path / "latency.json").write_text(json.dumps({"machine": "this", "rows": before}))
    rows = [latency.Row("two steps", "ours", "pusht-state", 2, repeats=3), latency.Row("other", "")]
    monkeypatch.setattr(latency, "rows_of_table", lambda _: rows)
    arguments = ["latency", "--threads", "1", "--only", "two", "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    latency.main()
    written = json.loads((tmp_path / "latency.json").read_text())
    again, *kept = written["rows"]
    assert written["machine"] == "this" and kept == before[1:]
    assert again["label"] == "two steps" and again["median_ms"] < 9e9 and again["run"]


def test_the_rows_of_the_data_are_those_that_are_measured(latency: Any) -> None:
    wanted = {(r.label, r.engine, r.nfe) for r in latency.rows_of_table("folder")}
    rows = json.loads((DATA / "latency.json").read_text())["rows"]
    assert {(r["label"], r["engine"], r["nfe"]) for r in rows} == wanted


def test_a_server_is_measured_and_killed(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["server", "pusht-state", "--seconds", "2", "--messages", "14"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--data", str(tmp_path)])
    monkeypatch.setattr(server, "KILLED_CLIENTS", 5)
    monkeypatch.setattr(server, "CLIENTS", 3)
    monkeypatch.setattr(server, "AFTER_RESTART", 30)
    server.main()
    found, kept = (json.loads((folder / "server.json").read_text()) for folder in (tmp_path, DATA))
    assert found["load"]["answers"] > 0 and found["load"]["lost"] == 0
    assert found["malformed"]["refused_with_text"] == found["malformed"]["messages"] == 14
    # What the page is made of has the same names.
    for name in ("one_robot", "load", "malformed", "killed_mid_frame", "slow_client"):
        assert {"p50_ms", "p95_ms", "p99_ms", "max_ms", "late", "lost"} <= set(found[name])
        assert set(found[name]) >= set(kept[name]) - {"kinds", "server_alive"}
    assert set(found["restart"]) <= set(kept["restart"])
    assert {"policy", "nfe", "hz", "clients_killed", "computer"} <= set(found)


def test_multiply_adds_of_the_bundled_policies() -> None:
    import torch
    import yaml
    from torch.utils.flop_counter import FlopCounterMode

    from lfm_policy import load_policy

    counted = yaml.safe_load((DATA / "notes" / "latency.yaml").read_text())["multiply_adds"]
    for name in ("pusht-state", "pusht-state-teacher", "pusht-image"):
        policy = load_policy(name)
        with FlopCounterMode(display=False) as flops:
            policy.sample(policy.fake_batch(), noise=torch.randn(1, *policy.chunk_shape))
        assert flops.get_total_flops() == 2 * counted[name]


def test_training_rates_are_those_of_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    import training_rates

    monkeypatch.delitem(sys.modules, "training_rates")
    for config, _, changes in training_rates.ROWS.values():
        load_config(config, changes)
    output = tmp_path / "rates.json"
    options = ["--device", "cpu", "--rows", "mlp", "--seconds", "0.1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["training_rates", *options])
    training_rates.main()
    (row,) = json.loads(output.read_text())["rows"]
    assert row["row"] == "mlp" and row["batch"] == 256 and row["rate"] > 0
    # Forward and backward of 663,008 weights: three products with each weight and row.
    assert row["flops"] == pytest.approx(3 * 2 * 256 * 663_008, rel=0.05)
    assert "mlp: " in capsys.readouterr().out
    # What a compiled network does is counted without compiling it.
    dataset = training_rates.random_demonstrations(tmp_path / "random.zarr")
    make = training_rates.trainer_of
    uncompiled = make("unet-compile", dataset, tmp_path, "cpu", "training.compile=false")
    plain = make("unet", dataset, tmp_path / "plain", "cpu")
    assert training_rates.flops_of(uncompiled) == training_rates.flops_of(plain) > 0
    options = ["--device", "cpu", "--rows", "mlp", "unet", "--minutes", "1e-9"]
    monkeypatch.setattr(sys, "argv", ["training_rates", *options])
    training_rates.main()
    assert "left out after 1e-09 minutes: mlp and what follows" in capsys.readouterr().out
