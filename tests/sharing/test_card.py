"""Model cards: every number is one of the facts, and what nobody recorded is said to be so."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from lfm_policy import load_policy
from lfm_policy.config import config_from_dict, config_to_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.evaluation.statistics import wilson_interval
from lfm_policy.policy import CheckpointHeader, read_header
from lfm_policy.sharing.card import model_card
from lfm_policy.sharing.front_matter import CardOptions
from lfm_policy.sharing.meanings import meanings, rate
from lfm_policy.sharing.reports import Measured, find_reports, read_reports

NAME = "someone/arm"


def card(
    header: CheckpointHeader, measured: Measured | None = None, **options: Any
) -> tuple[str, Any]:
    """Return the text, and what the hub reads of it."""
    text = model_card(header, measured or Measured(), CardOptions(NAME, **options))
    return text, ModelCard(text).data


def changed(header: CheckpointHeader, **sections: dict[str, Any]) -> CheckpointHeader:
    """Return a header with other options, ``section={option: value}``."""
    values = config_to_dict(header.config)
    for section, options in sections.items():
        values[section] = {**values[section], **options}
    return dataclasses.replace(header, config=config_from_dict(values, "test"))


def evaluation(header: CheckpointHeader, *, solved: int = 7, n: int = 10) -> dict[str, Any]:
    """Return what `eval.json` holds of it, as far as cards read it."""
    return {
        "checkpoint_sha256": header.sha256,
        "n_action_steps": 3,
        "config": {"env_id": "my/Arm-v0", "seed_start": 500, "noise_seed": 4},
        "cells": [
            {
                "solver": "euler",
                "nfe": 2.0,
                "noise_scale": 0.6,
                "summary": {
                    "n": n,
                    "successes": solved,
                    "success_interval": list(wilson_interval(solved, n)),
                    "score": 0.8125,
                },
                "latency": {"median_ms": 1.25, "p95_ms": 2.5, "threads": 1, "device": "cpu"},
                "episodes": [{"max_reward": i / n} for i in range(n)],
            }
        ],
    }


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def header(run: Path) -> CheckpointHeader:
    return read_header(run)


def test_the_hub_reads_what_it_is(header: CheckpointHeader) -> None:
    text, data = card(header, license="apache-2.0", description="Moves the *arm*.")
    assert (data.license, data.library_name, data.pipeline_tag) == (
        *("apache-2.0", "lfm-policy"),
        "robotics",
    )
    assert {"robotics", "lfm-policy"} <= set(data.tags)
    assert data.datasets is None and data.eval_results is None
    assert "# arm\n\nMoves the *arm*.\n" in text
    assert "apache-2.0" in text.partition("## Licence")[2]


def test_what_nobody_recorded_is_said(header: CheckpointHeader) -> None:
    text, data = card(header)
    assert data.license is None and "license" not in data.to_dict()
    assert "None is given here, so none is granted" in text
    assert "Not evaluated" in text and "no rollout of it is recorded" in text
    assert "unit not recorded" in text and "rate: not recorded" in text
    assert "cameras: none" in text


def test_numbers_are_those_of_the_policy(run: Path, header: CheckpointHeader) -> None:
    text, _ = card(header)
    policy = load_policy(run)
    low, high = policy.training_range("agent_pos")
    row = f"| `agent_pos` | (2,) | float32 | {low[0]:.4g} to {high[0]:.4g}; {low[1]:.4g} to "
    assert row in text
    assert f"{policy.parameter_counts()['total']:,} parameters" in text
    assert "It remembers 2 observations, predicts 6 actions, and executes 3 of them" in text
    assert f"trained on {header.training['train_windows']} windows of 5 episodes" in text
    assert "kept for validation: 1 episode\n" in text
    assert header.sha256 in text and header.spec.fingerprint in text
    assert "`small.zarr`" in text and str(Path(header.config.dataset.path).parent) not in text  # type: ignore[attr-defined]


def test_its_python_runs(run: Path, header: CheckpointHeader) -> None:
    text, _ = card(header)
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = dict(load_policy(run).fake_obs())
    exec(block[1].replace(NAME, str(run)), names)
    assert names["action"].shape == (2,)


def test_the_same_facts_give_the_same_text(header: CheckpointHeader) -> None:
    assert card(header)[0] == card(read_header(header.folder))[0]


def test_figures(run: Path, header: CheckpointHeader) -> None:
    written(run / "eval" / "eval.json", evaluation(header))
    longer = evaluation(header, solved=80, n=100) | {"n_action_steps": 2}
    longer["cells"][0] |= {"nfe_per_block": [2], "block_times": [[0.3]]}
    written(run / "eval-long" / "eval.json", longer)
    text, data = card(header, read_reports(find_reports(run, header), header))
    low, high = wilson_interval(7, 10)
    assert f"7/10 = 0.700 ({low:.3f} to {high:.3f})" in text and "80/100 = 0.800" in text
    assert "| 10 (seeds 500 to 509) | 2 (euler), noise 0.6 |" in text
    spent = "2 (2 at 0.3) (euler), noise 0.6, 2 actions executed"
    assert f"| 100 (seeds 500 to 599) | {spent} |" in text
    assert "0.812 (" in text and "noise: 4" in text
    assert text.count("median 1.25 ms, 95% below 2.50 ms (1 thread, cpu, PyTorch)") == 1
    assert "in simulation only (my/Arm-v0)" in text and "Not evaluated" not in text
    found = {(r.metric_type, r.metric_value, r.dataset_split) for r in data.eval_results}
    assert found == {
        ("success_rate", 0.7, "seeds 500 to 509"),
        ("score", 0.8125, "seeds 500 to 509"),
        ("success_rate", 0.8, "seeds 500 to 599"),
        ("score", 0.8125, "seeds 500 to 599"),
    }
    assert {r.dataset_name for r in data.eval_results} == {"my/Arm-v0"}
    assert any("n = 100" in r.metric_name for r in data.eval_results)


def test_an_environment_that_reports_no_success(run: Path, header: CheckpointHeader) -> None:
    content = evaluation(header)
    content["cells"][0]["summary"] |= {"successes": None, "success_interval": None}
    paths = [written(run / "eval.json", content)]
    text, data = card(header, read_reports(paths, header))
    assert "not reported by the environment" in text
    assert [result.metric_type for result in data.eval_results] == ["score"]


def test_open_loop_errors(run: Path, header: CheckpointHeader) -> None:
    content = {
        "format": "lfm-policy-check",
        "policy": {"checkpoint_sha256": header.sha256},
        "data": {"kind": "held-out", "episodes": [1, 4]},
        "open_loop": {
            "errors": {
                "sample": {"normalized": 0.125, "interval": [0.1, 0.15]},
                "baseline_repeat": {"normalized": 0.25},
            },
            "strongest_baseline": "repeat",
        },
    }
    written(run / "check" / "check.json", content)
    text, _ = card(header, read_reports(find_reports(run, header), header))
    assert "on 2 episodes (held-out), in normalised units: 0.125 (0.1 to 0.15, 95%)" in text
    assert "repeating the last action has 0.25" in text
    assert "no success rates" in text and "no rollout of it is recorded" in text


def test_reports_of_other_checkpoints(run: Path, header: CheckpointHeader) -> None:
    path = written(run / "eval" / "eval.json", evaluation(header) | {"checkpoint_sha256": "0" * 64})
    measured = read_reports(find_reports(run, header), header)
    assert measured.rollouts == () and measured.left_out == (path.resolve(),)
    with pytest.raises(InputError, match=r"is of the checkpoint 000000000000\.\.\."):
        read_reports([path], header, insist=True)
    written(path, {"cells": []})
    with pytest.raises(InputError, match="is no report of 'lfm-policy eval' or 'check'"):
        read_reports([path], header)


def test_a_student(header: CheckpointHeader) -> None:
    distill = {"method": "regression", "teacher": "abcdef0123456789", "teacher_blocks": 3}
    text, _ = card(changed(header, distill=distill | {"recording": "/home/me/seen.zarr"}))
    assert "distilled by the method `regression` from a teacher of 3 blocks" in text
    assert "`abcdef012345`" in text and "control --record" in text and "/home/me" not in text


def test_a_fine_tuned_policy(header: CheckpointHeader) -> None:
    text, _ = card(changed(header, init={"source": "0123456789abcdef"}))
    assert "It was fine-tuned: its training began with" in text and "`0123456789ab`" in text
    assert "fine-tuned" not in card(header)[0]
    text, _ = card(changed(header, init={"source": "0123456789abcdef", "blocks": "new"}))
    assert "Its encoder began with the weights of the checkpoint `0123456789ab`" in text
    assert "fine-tuned" not in text


def test_a_diffusion_policy(header: CheckpointHeader) -> None:
    changes = {"flow": {"n_blocks": 1, "method": "diffusion"}, "sampler": {"nfe": 10}}
    text, _ = card(changed(header, **changes))
    assert "by denoising diffusion: one block takes noise" in text
    assert "in 10 network evaluations (ddim)" in text


def test_a_regression_is_no_flow_matching(header: CheckpointHeader) -> None:
    time = {"name": "points", "points": [1.0]}
    changes = {"flow": {"n_blocks": 1, "method": "regression", "time": time}, "sampler": {"nfe": 1}}
    text, _ = card(changed(header, **changes))
    assert "by regression: one block takes" in text and "Local Flow Matching" not in text


def test_a_policy_of_several_tasks_names_them(
    header: CheckpointHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = {**header.spec.obs_shapes, "task": (2,)}
    spec = dataclasses.replace(header.spec, obs_shapes=shapes, tasks=("fold", "stack"))
    arrays = {key: np.zeros((3, *shape)) for key, shape in shapes.items()}
    normalizer = Normalizer.fit(arrays | {"action": np.zeros((3, spec.action_dim))})
    monkeypatch.setattr("lfm_policy.sharing.card.read_normalizer", lambda header: normalizer)
    text, _ = card(dataclasses.replace(header, spec=spec))
    assert 'policy.task = "fold"  # or stack\n' in text and '"task": task' not in text
    assert "which task, one-hot: fold, stack" in text


@pytest.mark.parametrize(
    ("solver", "options"),
    [("", " "), ("ddpm", " --solver ddim --nfe 10 "), ("dopri5", " --solver heun --nfe 16 ")],
)
def test_a_graph_is_exported_with_a_solver_that_can_be(
    header: CheckpointHeader, solver: str, options: str
) -> None:
    changes: dict[str, Any] = {"sampler": {"solver": solver}}
    if solver == "ddpm":
        changes |= {"flow": {"n_blocks": 1, "method": "diffusion"}}
    text, _ = card(changed(header, **changes))
    assert f" exported{options}--check  # one ONNX graph" in text


def test_evaluations_of_each_block(header: CheckpointHeader) -> None:
    text, _ = card(changed(header, sampler={"block_nfe": [1, 3]}))
    assert "in 4 network evaluations, 1 and 3 in its blocks from the data to the noise (eul" in text


def test_a_training_that_is_not_complete(header: CheckpointHeader) -> None:
    unfinished = dataclasses.replace(header, training=header.training | {"complete": False})
    assert "**Its training was not complete" in card(unfinished)[0]
    assert "not complete" not in card(header)[0]


def test_actions_that_are_not_clipped(header: CheckpointHeader) -> None:
    text, _ = card(changed(header, policy={"clip_actions": False}))
    assert "Actions are not clipped" in text and "its actions are not clipped" in text


def test_exports_are_named(header: CheckpointHeader) -> None:
    text, _ = card(header, exports=("onnx/exported",))
    assert 'OnnxPolicy("policy/onnx/exported")' in text
    assert f'hf download {NAME} --include "onnx/*"' in text


def test_a_dataset_of_the_hub(header: CheckpointHeader, empty_folder: Path) -> None:
    options = {"name": "lerobot", "path": "lerobot/aloha", "obs_keys": []}
    values = config_to_dict(header.config) | {"dataset": options}
    hub = dataclasses.replace(header, config=config_from_dict(values, "test"))
    text, data = card(hub)
    assert data.datasets == ["lerobot/aloha"]
    assert "https://huggingface.co/datasets/lerobot/aloha" in text
    (empty_folder / "lerobot").mkdir()  # so it may have been a folder
    assert card(hub)[1].datasets is None


def test_units_of_known_environments() -> None:
    image = read_header("pusht-image").config
    found = meanings(image, {"image": 96 * 96 * 3, "agent_pos": 2, "action": 2})
    assert found.keys() == {"agent_pos", "action"} and rate(image) == 10
    options = config_to_dict(image) | {
        "env": {"id": "lfm/Lift-v0", "options": {"env_args": {"env_kwargs": {"control_freq": 25}}}}
    }
    lift = config_from_dict(options, "test")
    keys = {"object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_own": 1, "action": 7}
    found = meanings(lift, keys)
    assert found.keys() == keys.keys() - {"robot0_own"} and rate(lift) == 25
    assert ", m" in found["robot0_eef_pos"] and "quaternion" in found["robot0_eef_quat"]
    assert "change of position" in found["action"]
    options["env"] = {"id": "lfm/Lift-v0", "options": {"absolute_actions": True}}
    assert "goal of the gripper" in meanings(config_from_dict(options, "test"), keys)["action"]
    options["env"] = {"id": "my/Own-v0"}
    own = config_from_dict(options, "test")
    assert meanings(own, keys) == {} and rate(own) is None


def test_names_of_motors(header: CheckpointHeader, tmp_path: Path) -> None:
    motors = ["shoulder.pos", "gripper.pos"]
    info = {
        "features": {
            "observation.state": {"names": motors},
            "observation.effort": {"names": None},
            "action": {"names": {"motors": motors}},
        }
    }
    written(tmp_path / "data" / "meta" / "info.json", info)
    dataset = {"name": "lerobot", "path": str(tmp_path / "data")}
    config = config_from_dict(config_to_dict(header.config) | {"dataset": dataset}, "test")
    found = meanings(config, {"state": 2, "effort": 2, "action": 2})
    assert found == dict.fromkeys(
        ("state", "action"), "shoulder.pos, gripper.pos (unit not recorded)"
    )
    assert meanings(config, {"state": 3}) == {}
