"""What a robot feels of a policy, measured from its rollouts and samples."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy import load_policy
from lfm_policy.assets import bundled_demonstrations
from lfm_policy.checking.demonstrations import instants_of

pytestmark = pytest.mark.simulator

STUDIES = Path(__file__).resolve().parents[2] / "scripts" / "studies"


@pytest.fixture()
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(STUDIES))
    import chunk_quality

    for name in ("pieces", "listed", "chunk_quality"):
        monkeypatch.delitem(sys.modules, name)
    return chunk_quality


def test_rollouts_are_instants_of_the_policy_itself(script: Any) -> None:
    policy = load_policy("pusht-state", device="cpu")
    settings = script.Settings(episodes=2, instants=5, samples=8, range_instants=4, range_samples=2)
    buffer = script.rolled_out(policy, settings)
    assert buffer.n_episodes == 2 and set(buffer.arrays) == {*policy.spec.obs_shapes, "action"}
    instants = instants_of(buffer, np.arange(2), policy)
    # The policy executed what it said at these instants: its first chunk from the same noise.
    policy.reset()
    policy.sample_seed(0, episode=0)
    first = buffer.arrays["action"][: policy.n_action_steps]
    chunk = [
        policy.select_action({k: v[0] for k, v in buffer.arrays.items() if k != "action"})
        for _ in range(policy.n_action_steps)
    ]
    assert np.allclose(first, chunk, atol=1e-4)
    few = script.few_of(instants, 5)
    assert len(few) == 5 and few.step[0] == 0 and few.demonstrated.shape[0] == 5
    samples = script.sampled(policy, few, 8, script.OWN)
    assert samples.shape == (8, 5, *policy.chunk_shape)
    assert np.array_equal(samples, script.sampled(policy, few, 8, script.OWN))
    assert script.ahead(policy, samples).shape == (8, 5, 15 * 2)


def test_a_cell_is_measured_once_and_kept(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = load_policy("pusht-state", device="cpu")
    assets = Path(policy.info["checkpoint"])
    for name in ("fm", "regression"):  # of which the study says no more than the folder
        run = tmp_path / "runs" / "seed0" / name
        shutil.copytree(assets, run / "checkpoints" / "1")
        (run / "latest").write_text("checkpoints/1")
    opened = script.opened
    # The policies that stand in are students of two evaluations.
    plain = script.sampler_of("2@0.6")
    monkeypatch.setattr(script, "opened", lambda folder, sampler: load_policy(folder))
    monkeypatch.setattr(script, "REFERENCE", ("fm", plain))
    options = ["--parts", "methods", "--models", "regression", "--seeds", "0"]
    small = ["--episodes", "1", "--instants", "6", "--samples", "16", "--range-instants", "4"]
    folders = ["--output", str(tmp_path / "runs"), "--data", str(tmp_path)]
    folders += ["--dataset", str(bundled_demonstrations())]
    monkeypatch.setattr(sys, "argv", ["chunk_quality.py", *options, *small, *folders])
    script.main()
    found = json.loads((tmp_path / "pusht_chunks.json").read_text())
    assert list(found["cells"]) == ["fm seed0 euler2-noise0.6", "regression seed0 euler1"]
    cell = found["cells"]["regression seed0 euler1"]
    assert cell["smoothness"]["n_joins"] > 0 and cell["smoothness"]["jerk_at_joins"] > 0
    assert 0 <= cell["outside_rollouts"]["share_of_chunks"] <= 1
    assert cell["ways"]["n_instants"] == 6 and cell["spread"] == pytest.approx(1, abs=0.5)
    assert opened is not script.opened
    capsys.readouterr()
    script.main()
    assert capsys.readouterr().out == ""  # all is known
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--samples", "8"])
    with pytest.raises(SystemExit):
        script.main()
    assert "other settings" in capsys.readouterr().err
