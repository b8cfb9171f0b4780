"""Files of Diffusion Policy and robomimic that are not supported, by one message each."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.importing.diffusion_policy import HYBRID, LOWDIM
from lfm_policy.importing.run import import_policy
from lfm_policy.policy import load_policy

from .test_lerobot_errors import unet

SCHEDULER = {
    "_target_": "diffusers.schedulers.scheduling_ddpm.DDPMScheduler",
    "num_train_timesteps": 100,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "variance_type": "fixed_small",
    "clip_sample": True,
    "prediction_type": "epsilon",
}
POLICY = {
    "_target_": LOWDIM,
    "model": {"n_groups": 4},
    "noise_scheduler": SCHEDULER,
    "horizon": 8,
    "obs_dim": 3,
    "n_action_steps": 4,
    "n_obs_steps": 2,
    "num_inference_steps": 100,
    "obs_as_global_cond": True,
    "oa_step_convention": True,
}


def original(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the weights of a network by the names of Diffusion Policy."""
    made = {}
    for name, weight in weights.items():
        new = name.removeprefix("diffusion.unet.")
        new = new.replace(".conv1.", ".blocks.0.").replace(".conv2.", ".blocks.1.")
        for resample in ("down_modules.0.2.", "up_modules.0.2."):
            new = new.replace(resample, f"{resample}conv.")
        made[prefix + new] = weight
    return made


def diffusion_policy(path: Path, *changes: tuple[str, Any], ema: bool = True) -> Path:
    """Write a checkpoint; changes are dotted keys of ``cfg.policy`` and their values."""
    policy = copy.deepcopy(POLICY)
    for key, value in changes:
        *sections, last = key.split(".")
        section: dict[str, Any] = policy
        for name in sections:
            section = section[name]
        section[last] = value
    state = original(unet(6), "model.")
    for key, size in (("obs", 3), ("action", 2)):
        state[f"normalizer.params_dict.{key}.scale"] = torch.full((size,), 0.5)
        state[f"normalizer.params_dict.{key}.offset"] = torch.full((size,), 0.25)
    content = {
        "cfg": {"policy": policy, "training": {"use_ema": ema}},
        "state_dicts": {"ema_model": state, "model": state},
    }
    torch.save(content, path)
    return path


def robomimic(path: Path, **changes: Any) -> Path:
    """Write a policy; changes are of its top level, of ``ddpm``, or of ``unet``."""
    ddpm = {
        "enabled": True,
        "num_train_timesteps": 100,
        "num_inference_timesteps": 100,
        "beta_schedule": "squaredcos_cap_v2",
        "clip_sample": True,
        "prediction_type": "epsilon",
        **changes.pop("ddpm", {}),
    }
    algo = {
        "horizon": {"observation_horizon": 2, "action_horizon": 4, "prediction_horizon": 8},
        "unet": {
            "down_dims": [8, 16],
            "diffusion_step_embed_dim": 8,
            "kernel_size": 5,
            "n_groups": 4,
            **changes.pop("unet", {}),
        },
        "ema": {"enabled": True},
        "ddpm": ddpm,
        "ddim": {"enabled": False},
    }
    train = {"action_keys": ["actions"], "action_config": {"actions": {"normalization": None}}}
    content = {
        "algo_name": "diffusion_policy",
        "config": json.dumps({"algo": algo, "train": train}),
        "model": {"ema": original(unet(6), "policy.noise_pred_net."), "nets": {}},
        "shape_metadata": {"all_shapes": {"pos": [3]}, "ac_dim": 2},
        "obs_normalization_stats": None,
        "action_normalization_stats": {"actions": {"scale": [[1.0, 1.0]], "offset": [[0.0, 0.0]]}},
        **changes,
    }
    torch.save(content, path)
    return path


def test_both_can_be_imported(tmp_path: Path) -> None:
    for n, file in enumerate(
        (diffusion_policy(tmp_path / "a.ckpt"), robomimic(tmp_path / "b.pth"))
    ):
        import_policy(file, tmp_path / f"{n}")
        policy = load_policy(tmp_path / f"{n}")
        assert (policy.solver, policy.nfe) == ("ddpm", 100)
        assert policy.config.flow.method.clip_any == (n == 1)  # actions are not scaled there


DIFFUSION_POLICY: dict[str, tuple[tuple[str, Any], str]] = {
    "another policy": (("_target_", "diffusion_policy.policy.bet.BETLowdimPolicy"), HYBRID),
    "local conditions": (("obs_as_global_cond", False), "obs_as_global_cond is False"),
    "the class's default": (("oa_step_convention", False), "oa_step_convention is False"),
    "executed actions alone": (("pred_action_steps_only", True), "pred_action_steps_only is True"),
    "fewer steps": (("num_inference_steps", 30), "--solver ddim --nfe 30"),
    "another scheduler": (("noise_scheduler._target_", "x.EDM"), "DDIMScheduler"),
    "another variance": (("noise_scheduler.variance_type", "learned"), "supported: 'fixed_small'"),
    "other observations": (("obs_dim", 4), "has 3 scales of 'obs', expected 4"),
    "a node that is a list": (("model", [1]), "model is '[1]', expected dict"),
}


@pytest.mark.parametrize("case", DIFFUSION_POLICY)
def test_diffusion_policy_that_is_not_supported(case: str, tmp_path: Path) -> None:
    change, message = DIFFUSION_POLICY[case]
    with pytest.raises(InputError) as raised:
        import_policy(diffusion_policy(tmp_path / "a.ckpt", change), tmp_path / "out")
    assert message in str(raised.value)


ROBOMIMIC: dict[str, tuple[dict[str, Any], str]] = {
    "another algorithm": ({"algo_name": "bc"}, "supported: 'diffusion_policy'"),
    "cameras": (
        {"shape_metadata": {"all_shapes": {"image": [3, 84, 84]}, "ac_dim": 2}},
        "numbers alone",
    ),
    "groups nobody knows": ({"unet": {"down_dims": [64, 128]}}, "groups of its norms are unknown"),
    "fewer steps": ({"ddpm": {"num_inference_timesteps": 10}}, "--solver ddim --nfe 10"),
    "no scheduler": ({"ddpm": {"enabled": False}}, "no scheduler"),
    "no statistics": ({"action_normalization_stats": None}, "is missing"),
    "statistics of something else": ({"obs_normalization_stats": {}}, "'obs_normalization_stats"),
    "a configuration of text": ({"config": "{"}, "not valid JSON"),
}


@pytest.mark.parametrize("case", ROBOMIMIC)
def test_robomimic_that_is_not_supported(case: str, tmp_path: Path) -> None:
    changes, message = ROBOMIMIC[case]
    with pytest.raises(InputError) as raised:
        import_policy(robomimic(tmp_path / "a.pth", **changes), tmp_path / "out")
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_sampler_that_is_not_ours_can_be_replaced(tmp_path: Path) -> None:
    files = (
        diffusion_policy(tmp_path / "a.ckpt", ("num_inference_steps", 30)),
        robomimic(tmp_path / "b.pth", ddpm={"num_inference_timesteps": 30}),
    )
    for n, file in enumerate(files):
        import_policy(file, tmp_path / f"{n}", solver="ddim", nfe=30)
        policy = load_policy(tmp_path / f"{n}")
        assert (policy.solver, policy.nfe) == ("ddim", 30)
