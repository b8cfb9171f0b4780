"""To a folder of LeRobot's and back: the same chunks, and the same checkpoint."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lfm_policy.config import config_to_dict
from lfm_policy.errors import InputError
from lfm_policy.importing.run import import_policy
from lfm_policy.lerobot.export import export_lerobot
from lfm_policy.policy import Policy, load_policy

from .conftest import MakePolicy, chunks, difference, normalised_there, observations

TOLERANCE = 1e-5


def back(policy: Policy, folder: Path, **names: str) -> Policy:
    """Return the policy that was exported to ``folder / there`` and imported again."""
    export_lerobot(policy, folder / "there", rename=names)
    import_policy(folder / "there", folder / "back")
    return load_policy(folder / "back")


def constant_elements() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    pose, action = (generator.uniform(-2, 300, (60, size)) for size in (4, 3))
    pose[:, 1], action[:, 2] = 17.25, -3.5
    return {"pose": pose, "action": action}


CASES: dict[str, dict[str, Any]] = {
    "limits": {},
    "standard": {"normalization": {"obs": "standard", "action": "standard"}},
    "quantiles": {"normalization": {"obs": "quantiles", "action": "quantiles"}},
    "identity": {"normalization": {"obs": "identity"}},
    "a mode for each": {"normalization": {"obs": "standard", "keys": {"pose": "identity"}}},
    "constant elements": {"arrays": constant_elements()},
    "constant, standard": {
        "arrays": constant_elements(),
        "normalization": {"obs": "standard", "action": "standard"},
    },
    "a camera": {"shapes": {"front": (20, 18, 3), "arm": (6,)}},
    "no observation": {"shapes": {}},
    "blocks of their own": {
        "block_networks": [{"width": 8}, {}],
        "sampler": {"block_nfe": [1, 3], "block_times": [[], [0.6, 0.2]], "renoise": 0.5},
    },
    "guided": {"flow": {"n_blocks": 2, "drop_obs": 0.2}, "sampler": {"nfe": 8, "guidance": 1.5}},
    "mean flow": {"flow": {"n_blocks": 1, "method": {"name": "mean_flow"}}},
    "diffusion": {
        "flow": {"n_blocks": 1, "method": {"name": "diffusion"}},
        "sampler": {"solver": "ddim", "nfe": 5},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_chunks_are_the_same(case: str, make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(**CASES[case])
    other = back(policy, tmp_path)
    assert difference(policy, other) < TOLERANCE
    assert other.sampler == policy.sampler
    mine, theirs = config_to_dict(policy.config), config_to_dict(other.config)
    mine["normalization"] = theirs["normalization"] = None  # one mode for each type there
    assert mine == theirs
    kept = {key: value for key, value in other.info.items() if key in policy.info}
    assert kept == json.loads(json.dumps(policy.info))
    for key in other.normalizer.keys():  # noqa: SIM118
        for part in ("min", "max", "mean", "std"):
            mine_part, theirs_part = (getattr(p.normalizer[key], part) for p in (policy, other))
            torch.testing.assert_close(theirs_part, mine_part, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("case", [case for case in CASES if case != "no observation"])
def test_lerobot_normalises_as_we_do(case: str, make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(**CASES[case])
    folder = export_lerobot(policy, tmp_path / "there")
    names = json.loads((folder / "config.json").read_text())["names"]
    seen = observations(policy)
    for key, name in names.items():
        if seen[name].dtype != torch.uint8:
            found = normalised_there(folder, key, seen[name])
            torch.testing.assert_close(
                found, policy.normalizer.normalize(name, seen[name]), rtol=0, atol=TOLERANCE
            )
    inside = torch.linspace(-1, 1, 30).reshape(10, 3)
    raw = policy.normalizer.unnormalize("action", inside)
    there = normalised_there(folder, "action", inside, inverse=True)
    torch.testing.assert_close(there, raw, rtol=1e-6, atol=1e-4)


def test_the_present_sampler_and_steps_are_exported(
    make_policy: MakePolicy, tmp_path: Path
) -> None:
    policy = make_policy()
    policy.set_sampler(nfe=[1, 3], noise_scale=0.2)
    policy.n_action_steps = 2
    other = back(policy, tmp_path)
    assert other.nfe_per_block == (1, 3) and other.noise_scale == 0.2
    assert other.n_action_steps == 2
    assert difference(policy, other) < TOLERANCE


def test_prefixes_are_continued(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(
        policy={"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3, "max_prefix": 3}
    )
    committed = torch.full((3, 2, 3), 120.0)
    assert difference(policy, back(policy, tmp_path), committed) < TOLERANCE


def test_students_and_bundled_policies(tmp_path: Path) -> None:
    for name in ("pusht-state", "pusht-image"):
        policy = load_policy(name)
        other = back(policy, tmp_path / name)
        assert difference(policy, other) < TOLERANCE
        assert other.config.distill == policy.config.distill


def test_names_by_default_and_given(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(shapes={"front": (20, 18, 3), "image": (20, 18, 1), "arm": (6,)})
    folder = export_lerobot(policy, tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    assert config["names"] == {
        "observation.images.front": "front",
        "observation.image": "image",
        "observation.state": "arm",
    }
    assert config["input_features"] == {
        "observation.images.front": {"type": "VISUAL", "shape": [3, 20, 18]},
        "observation.image": {"type": "VISUAL", "shape": [1, 20, 18]},
        "observation.state": {"type": "STATE", "shape": [6]},
    }
    other = make_policy(shapes={"pose": (4,), "keypoints": (8,), "gripper": (1,)})
    folder = export_lerobot(other, tmp_path / "b", rename={"pose": "observation.state"})
    config = json.loads((folder / "config.json").read_text())
    assert {key: f["type"] for key, f in config["input_features"].items()} == {
        "observation.state": "STATE",
        "observation.environment_state": "ENV",
        "observation.gripper": "STATE",
    }
    import_policy(folder, tmp_path / "c")
    assert set(load_policy(tmp_path / "c").spec.obs_shapes) == {"pose", "keypoints", "gripper"}


def test_names_that_cannot_be(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(shapes={"state": (4,), "agent_pos": (2,)})
    with pytest.raises(InputError, match=r"agent_pos and state would both be called observation"):
        export_lerobot(policy, tmp_path / "a")
    for rename, message in (
        ({"agent": "observation.a"}, "no observation 'agent'.*did you mean 'agent_pos'"),
        ({"state": "joints"}, "state=joints.*begin with 'observation.'"),
    ):
        with pytest.raises(InputError, match=message):
            export_lerobot(policy, tmp_path / "a", rename=rename)
    assert not (tmp_path / "a").exists()


def test_what_lerobot_lacks_is_refused(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy()
    policy.spec = dataclasses.replace(policy.spec, float64_keys=("pose",))
    with pytest.raises(InputError, match="float32 cannot tell the values of pose apart"):
        export_lerobot(policy, tmp_path / "a")
    policy.spec = dataclasses.replace(policy.spec, float64_keys=(), depth={"d": (0.1, 2.0)})
    with pytest.raises(InputError, match="d are images of depth"):
        export_lerobot(policy, tmp_path / "a")
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="exists already"):
        export_lerobot(make_policy(), tmp_path / "a")


def test_imported_with_another_sampler_and_names(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy()
    folder = export_lerobot(policy, tmp_path / "there")
    names = {"agent_pos": "hand", "pose": "object"}
    found = import_policy(folder, tmp_path / "back", rename=names, nfe=2)
    other = load_policy(tmp_path / "back")
    assert set(other.spec.obs_shapes) == {"hand", "object"} == set(found.shapes)
    assert other.nfe == 2 == found.sampler["nfe"]
    policy.set_sampler(nfe=2)
    obs = observations(policy)
    renamed = {names[key]: value for key, value in obs.items()}
    torch.testing.assert_close(chunks(other, renamed), chunks(policy, obs), rtol=1e-5, atol=1e-3)
    for rename, message in (
        ({"pose": "a", "agent_pos": "b"}, "another order of the alphabet"),
        ({"pos": "a"}, "no observation 'pos'"),
        ({"pose": "agent_pos"}, "expected different names"),
    ):
        with pytest.raises(InputError, match=message):
            import_policy(folder, tmp_path / "other", rename=rename)


def test_a_training_there_is_imported_by_its_ema(make_policy: MakePolicy, tmp_path: Path) -> None:
    """As LeRobot leaves it: weights in training and their EMA, and steps."""
    policy = make_policy()
    folder = export_lerobot(policy, tmp_path / "there")
    tensors = load_file(folder / "model.safetensors")
    ema = {f"ema.{n[6:]}": w for n, w in tensors.items() if n.startswith("model.")}
    noise = {n: torch.randn_like(w) for n, w in tensors.items() if n.startswith("model.")}
    steps = {"steps_done": torch.tensor(40)}
    save_file({**tensors, **noise, **ema, **steps}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config |= {"train_steps": 60, "joint_share": 0.5, "training": {}, "lfm_policy_version": "0"}
    (folder / "config.json").write_text(json.dumps(config))
    import_policy(folder, tmp_path / "back")
    other = load_policy(tmp_path / "back")
    assert difference(policy, other) < TOLERANCE
    assert other.info["imported"] == {"from": "LeRobot", "steps": 40, "train_steps": 60}
    assert other.info["complete"] is False and other.info["steps"] == 40
    training = other.config.training
    assert (training.encoder, training.encoder_steps, training.total_steps) == ("joint", 30, 30)


def _damaged(folder: Path, change: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    if change == "no field":
        del config["nfe"]
    elif change == "unknown option":
        config["options"]["flow"]["n_block"] = 3
    elif change == "a field among options":
        config["options"]["sampler"]["nfe"] = 3
    elif change == "a type":
        config["input_features"]["observation.state"]["type"] = "LANGUAGE"
    elif change == "a shape":
        config["input_features"]["observation.state"]["shape"] = [0]
    elif change == "names":
        config["names"]["observation.state"] = config["names"]["observation.pose"]
    elif change == "another network":
        config["options"]["network"]["width"] = 24
    elif change == "a weight less":
        del tensors["model.blocks.0." + next(n[15:] for n in tensors if "blocks.0." in n)]
    elif change == "no statistics":
        (folder / "policy_preprocessor.json").unlink()
        (folder / "policy_postprocessor.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no field", "config.json: 'nfe' is missing"),
        ("unknown option", "unknown key 'flow.n_block' of 'flow': did you mean 'n_blocks'"),
        ("a field among options", "options has sampler.nfe, which is a field of its own: nfe"),
        ("a type", "of type LANGUAGE; supported: STATE, ENV and VISUAL"),
        ("a shape", r"has shape \(0,\), expected positive sizes"),
        ("names", "names: two observations have the same"),
        ("another network", "the weight 'blocks.0.* has shape .*, expected"),
        ("a weight less", "has shape None, expected"),
        ("no statistics", "there are no statistics"),
    ],
)
def test_damaged_folders(
    change: str, message: str, make_policy: MakePolicy, tmp_path: Path
) -> None:
    folder = export_lerobot(make_policy(), tmp_path / "there")
    _damaged(folder, change)
    with pytest.raises(InputError, match=message):
        import_policy(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()
