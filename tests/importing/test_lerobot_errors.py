"""What cannot be imported is said in one message: what was found, what is supported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lfm_policy.cli.main import main
from lfm_policy.errors import InputError
from lfm_policy.importing.run import import_policy
from lfm_policy.policy import load_policy

SIZES = {"state": 3, "action": 2, "step": 8, "channels": [8, 16]}

Change = Callable[[dict[str, Any]], None]


def block(weights: dict[str, torch.Tensor], name: str, c_in: int, c_out: int, cond: int) -> None:
    for part, size in (("conv1", c_in), ("conv2", c_out)):
        weights[f"{name}.{part}.block.0.weight"] = torch.randn(c_out, size, 5) * 0.1
        weights[f"{name}.{part}.block.0.bias"] = torch.randn(c_out) * 0.1
        weights[f"{name}.{part}.block.1.weight"] = torch.ones(c_out)
        weights[f"{name}.{part}.block.1.bias"] = torch.zeros(c_out)
    weights[f"{name}.cond_encoder.1.weight"] = torch.randn(2 * c_out, cond) * 0.1
    weights[f"{name}.cond_encoder.1.bias"] = torch.zeros(2 * c_out)
    if c_in != c_out:
        weights[f"{name}.residual_conv.weight"] = torch.randn(c_out, c_in, 1) * 0.1
        weights[f"{name}.residual_conv.bias"] = torch.zeros(c_out)


def unet(condition: int) -> dict[str, torch.Tensor]:
    """Return weights by LeRobot's names; see `SIZES`."""
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    (low, high), action, step = (8, 16), 2, 8
    cond = step + condition
    for name, c_in, c_out in (
        ("down_modules.0.0", action, low),
        ("down_modules.0.1", low, low),
        ("down_modules.1.0", low, high),
        ("down_modules.1.1", high, high),
        ("mid_modules.0", high, high),
        ("mid_modules.1", high, high),
        ("up_modules.0.0", 2 * high, low),
        ("up_modules.0.1", low, low),
    ):
        block(weights, name, c_in, c_out, cond)
    shapes = {
        "down_modules.0.2": (low, low, 3),
        "up_modules.0.2": (low, low, 4),
        "final_conv.0.block.0": (low, low, 5),
        "final_conv.1": (action, low, 1),
        "diffusion_step_encoder.1": (4 * step, step),
        "diffusion_step_encoder.3": (step, 4 * step),
    }
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(*shape) * 0.1
        weights[f"{name}.bias"] = torch.zeros(shape[0])
    weights["final_conv.0.block.1.weight"] = torch.ones(low)
    weights["final_conv.0.block.1.bias"] = torch.zeros(low)
    return {f"diffusion.unet.{name}": weight for name, weight in weights.items()}


def config() -> dict[str, Any]:
    return {
        "type": "diffusion",
        "n_obs_steps": 2,
        "horizon": 8,
        "n_action_steps": 4,
        "input_features": {"observation.state": {"type": "STATE", "shape": [3]}},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "normalization_mapping": {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
        "n_groups": 4,
        "noise_scheduler_type": "DDIM",
        "num_train_timesteps": 100,
        "num_inference_steps": 5,
        "beta_schedule": "squaredcos_cap_v2",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "prediction_type": "epsilon",
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "resize_shape": None,
        "crop_ratio": 1.0,
    }


def processor(kind: str, modes: dict[str, str]) -> dict[str, Any]:
    settings = {"eps": 1e-8, "norm_map": modes, "features": {}}
    step = {"registry_name": kind, "config": settings, "state_file": f"{kind}.safetensors"}
    return {"name": kind, "steps": [step]}


def statistics() -> dict[str, torch.Tensor]:
    sizes = {"observation.state": 3, "action": 2}
    parts = {"min": -2.0, "max": 3.0, "mean": 0.5, "std": 1.5, "q01": -1.0, "q99": 2.0}
    return {
        f"{key}.{part}": torch.full((size,), value)
        for key, size in sizes.items()
        for part, value in parts.items()
    }


def written(
    folder: Path,
    *,
    change: Change | None = None,
    modes: dict[str, str] | None = None,
    stats: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write a policy as LeRobot 0.6 does."""
    folder.mkdir()
    settings = config()
    if change is not None:
        change(settings)
    modes = modes or settings.get("normalization_mapping", {})
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(unet(2 * 3), folder / "model.safetensors")
    for file, kind in (
        ("policy_preprocessor.json", "normalizer_processor"),
        ("policy_postprocessor.json", "unnormalizer_processor"),
    ):
        (folder / file).write_text(json.dumps(processor(kind, modes)))
        save_file(statistics() if stats is None else stats, folder / f"{kind}.safetensors")
    return folder


def test_it_is_one_that_can_be_imported(tmp_path: Path) -> None:
    folder = written(tmp_path / "policy")
    import_policy(folder, tmp_path / "out", rename={"observation.state": "joints"})
    policy = load_policy(tmp_path / "out")
    assert policy.spec.obs_shapes == {"joints": (3,)} and policy.solver == "ddim"
    assert (policy.nfe, policy.noise_scale, policy.config.policy.clip_actions) == (5, 1.0, False)
    low, high = policy.training_range("joints")
    assert low.tolist() == [-2.0] * 3 and high.tolist() == [3.0] * 3


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("MIN_MAX", 2 * (1 + 2) / 5 - 1),
        ("MEAN_STD", 0.5 / 1.5),
        ("QUANTILES", 2 * (1 + 1) / 3 - 1),
        ("IDENTITY", 1.0),
    ],
)
def test_modes(mode: str, expected: float, tmp_path: Path) -> None:
    folder = written(tmp_path / "policy", modes={"STATE": mode, "ACTION": mode})
    import_policy(folder, tmp_path / "out")
    policy = load_policy(tmp_path / "out")
    found = policy.normalizer.normalize("observation.state", torch.ones(3))
    assert found.tolist() == pytest.approx([expected] * 3)
    back = policy.normalizer.unnormalize("action", torch.full((2,), expected))
    assert back.tolist() == pytest.approx([1.0] * 2, abs=1e-5)


def test_what_never_changes_is_minus_one(tmp_path: Path) -> None:
    stats = statistics() | {"observation.state.max": torch.tensor([3.0, 255.0, 3.0])}
    stats["observation.state.min"] = torch.tensor([-2.0, 255.0, -2.0])
    import_policy(written(tmp_path / "policy", stats=stats), tmp_path / "out")
    policy = load_policy(tmp_path / "out")
    found = policy.normalizer.normalize("observation.state", torch.tensor([3.0, 255.0, -2.0]))
    assert found.tolist() == pytest.approx([1, -1, -1])


def put(key: str, value: Any) -> Change:
    return lambda settings: settings.__setitem__(key, value)


def drop(key: str) -> Change:
    return lambda settings: settings.__delitem__(key)


STATE = {"observation.state": {"type": "STATE", "shape": [3]}}
BAD: dict[str, tuple[Change, str]] = {
    "another type": (put("type", "act"), "type is 'act'; supported: 'diffusion'"),
    "no type": (drop("type"), "says no policy type"),
    "no horizon": (drop("horizon"), "'horizon' is missing"),
    "no steps": (drop("n_action_steps"), "'n_action_steps' is missing"),
    "no groups": (drop("n_groups"), "'n_groups' is missing"),
    "other groups": (put("n_groups", 3), "do not divide the levels"),
    "no clipping": (drop("clip_sample"), "'clip_sample' is missing"),
    "another prediction": (put("prediction_type", "v"), "supported: 'epsilon' or 'sample'"),
    "another scheduler": (put("noise_scheduler_type", "LCM"), "supported: 'DDPM' or 'DDIM'"),
    "a horizon of text": (put("horizon", "16"), "horizon is '16', expected int"),
    "half of 0.6": (drop("crop_ratio"), "resize_shape and crop_ratio without the other"),
    "an unknown option": (put("flow_shift", 3.0), "--ignore flow_shift"),
    "adapters": (put("use_peft", True), "use_peft is True"),
    "language": (
        put("input_features", STATE | {"task": {"type": "LANGUAGE", "shape": [1]}}),
        "supported: STATE, ENV, VISUAL",
    ),
    "no state but another": (
        put("input_features", {"observation.force": {"type": "STATE", "shape": [1]}}),
        "observes observation.force, but not 'observation.state'",
    ),
    "more numbers": (
        put("input_features", {"observation.state": {"type": "STATE", "shape": [4]}}),
        "expected (4,)",
    ),
    "more frames": (put("n_obs_steps", 3), "the network is told 6 numbers"),
    "more actions": (put("n_action_steps", 8), "n_action_steps"),
}


def test_states_that_lerobot_lists_but_does_not_look_at(tmp_path: Path) -> None:
    force = {"observation.force": {"type": "STATE", "shape": [1]}}
    folder = written(tmp_path / "policy", change=put("input_features", STATE | force))
    with pytest.warns(UserWarning, match=r"observation\.force is left out, because LeRobot's"):
        import_policy(folder, tmp_path / "out")
    assert set(load_policy(tmp_path / "out").spec.obs_shapes) == {"observation.state"}


@pytest.mark.parametrize("case", BAD)
def test_bad_configurations(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = BAD[case]
    folder = written(tmp_path / "policy", change=change)
    assert main(["import", str(folder), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_can_be_ignored(tmp_path: Path) -> None:
    folder = written(tmp_path / "policy", change=put("flow_shift", 3.0))
    import_policy(folder, tmp_path / "out", ignored=["flow_shift"])
    assert (tmp_path / "out" / "config.json").exists()


def test_missing_statistics(tmp_path: Path) -> None:
    partly = {k: v for k, v in statistics().items() if k != "observation.state.max"}
    folder = written(tmp_path / "partly", stats=partly)
    with pytest.raises(InputError, match=r"no max of 'observation\.state', which MIN_MAX needs"):
        import_policy(folder, tmp_path / "out")
    folder = written(tmp_path / "none")
    (folder / "normalizer_processor.safetensors").unlink()
    with pytest.raises(InputError, match="normalizer_processor.safetensors"):
        import_policy(folder, tmp_path / "out")
    for file in folder.glob("policy_*"):
        file.unlink()
    with pytest.raises(InputError, match="there are no statistics"):
        import_policy(folder, tmp_path / "out")
    never = statistics() | {"action.min": torch.full((2,), float("inf"))}
    with pytest.raises(InputError, match="never set"):
        import_policy(written(tmp_path / "never", stats=never), tmp_path / "out")


def test_processors_that_do_more(tmp_path: Path) -> None:
    folder = written(tmp_path / "policy")
    file = folder / "policy_preprocessor.json"
    content = json.loads(file.read_text())
    content["steps"].append({"registry_name": "delta_action_processor", "config": {}})
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="delta_action_processor.*not supported"):
        import_policy(folder, tmp_path / "out")
    content["steps"][-1] = {
        "registry_name": "rename_observations_processor",
        "config": {"rename_map": {"joints": "observation.state"}},
    }
    file.write_text(json.dumps(content))
    import_policy(folder, tmp_path / "out")
    assert load_policy(tmp_path / "out").spec.obs_shapes == {"joints": (3,)}
    content["steps"][0]["state_file"] = "../x.safetensors"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="expected a name alone"):
        import_policy(folder, tmp_path / "other")


def test_damaged_files(tmp_path: Path) -> None:
    folder = written(tmp_path / "policy")
    model = folder / "model.safetensors"
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        import_policy(folder, tmp_path / "out")
    weights = unet(6)
    del weights["diffusion.unet.final_conv.1.bias"]
    save_file(weights, model)
    with pytest.raises(InputError, match=r"'final_conv\.1\.bias' is missing"):
        import_policy(folder, tmp_path / "out")
    save_file({**unet(6), "diffusion.unet.more.weight": torch.ones(1)}, model)
    with pytest.raises(InputError, match=r"'more\.weight'"):
        import_policy(folder, tmp_path / "out")
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        import_policy(folder, tmp_path / "out")


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(written(tmp_path / "policy")), str(tmp_path / "out")
    for arguments, message in (
        ([str(tmp_path / "absent"), out], "no such file or folder"),
        ([str(tmp_path), out], "supported: LeRobot"),
        ([folder, folder], "exists already"),
        ([folder, out, "--rename", "joints"], "expected OLD=NEW"),
        ([folder, out, "--rename", "state=joints"], "no observation 'state'"),
        ([folder, out, "--rename", "observation.state=action"], "none of them 'action'"),
        ([folder, out, "--solver", "heun2"], "sampler.solver"),
        ([folder, out, "--from", "openpi"], "unknown framework"),
    ):
        assert main(["import", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "policy")
    arguments = ["import", str(folder), str(tmp_path / "out"), "--nfe", "3", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["framework"] == "LeRobot" and report["nfe"] == 3
    assert report["observations"] == {"observation.state": [3]}
    assert main(["import", str(folder), str(tmp_path / "other")]) == 0
    assert "observes observation.state (3,)" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "trained by LeRobot" in capsys.readouterr().out
    push = ["push", str(tmp_path / "out"), "user/name", "--dry-run"]
    assert main([*push, "--output", str(tmp_path / "hub")]) == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "trained with LeRobot by denoising diffusion" in card
    assert "format `zarr`" not in card and "gradient steps" not in card
