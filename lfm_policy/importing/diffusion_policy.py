"""Diffusion Policy's own checkpoints (Chi et al.): ``.ckpt`` of its U-Net workspaces."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.importing.cameras import Names, read_camera
from lfm_policy.importing.description import ForeignPolicy, Observed, Settings, refuse_ignored
from lfm_policy.importing.pickles.pickled import plain
from lfm_policy.importing.scaling import Array, Scaling, scaling
from lfm_policy.importing.torch_file import (
    loaded_dict,
    old_ddpm_steps,
    part,
    scheduler_method,
    tensors,
)
from lfm_policy.importing.unet import read_unet

if TYPE_CHECKING:
    from torch import Tensor

FRAMEWORK = "Diffusion Policy"
LOWDIM = "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy"
HYBRID = "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy"
SCHEDULERS = {
    "diffusers.schedulers.scheduling_ddpm.DDPMScheduler": "ddpm",
    "diffusers.schedulers.scheduling_ddim.DDIMScheduler": "ddim",
}
LOWDIM_KEY = "obs"
CAMERA_NAMES = Names(
    backbone="nets.0.nets.", maps="nets.1.nets.", output="nets.3.", grid="nets.1.pos_grid"
)


class DiffusionPolicy:
    """Reads policies of Diffusion Policy."""

    def detects(self, path: Path) -> bool:
        """Whether there is a checkpoint of Diffusion Policy, of whatever workspace."""
        loaded = loaded_dict(path)
        return loaded is not None and {"cfg", "state_dicts"} <= loaded.content.keys()

    def read(self, path: Path, *, ignored: Collection[str] = ()) -> ForeignPolicy:
        """Read a policy.

        Args:
            path: the file.
            ignored: none, for no option is refused for being unknown.

        Raises:
            InputError: it is of another kind, has options that are not supported, is incomplete
                or damaged.
        """
        loaded = loaded_dict(path)
        if loaded is None:
            raise InputError(f"{path}: is no file of Diffusion Policy (.ckpt)")
        refuse_ignored(path, ignored)
        content = loaded.content
        config = plain(part(content, path, "cfg"), f"{path}: cfg")
        settings = Settings(config, f"{path}: cfg", FRAMEWORK)
        policy = settings.section("policy")
        policy.require("_target_", (LOWDIM, HYBRID))
        ema = settings.section("training").get("use_ema", bool)
        which = "ema_model" if ema else "model"
        weights = tensors(path, part(content, path, "state_dicts", which), which)
        method, sampler, refused = _sampler(policy)
        lowdim = policy.values["_target_"] == LOWDIM
        network = policy.section("model") if lowdim else policy
        policy.require("obs_as_global_cond", True)
        if lowdim:
            _check_lowdim(policy)
        options, unet = read_unet(
            _inside(weights, "model."),
            str(path),
            n_groups=network.count("n_groups"),
            train_steps=method["train_steps"],
        )
        observed = _lowdim(path, policy, weights) if lowdim else _hybrid(path, policy, weights)
        action_dim = len(unet["proj_out.bias"])
        return ForeignPolicy(
            framework=FRAMEWORK,
            facts={"weights": which},
            observed=observed,
            action=_scaling(path, weights, "action", (action_dim,)),
            action_dim=action_dim,
            network=options,
            weights=unet,
            method=method,
            sampler=sampler,
            steps={key: policy.count(key) for key in ("n_obs_steps", "horizon", "n_action_steps")},
            refused=refused,
        )


DIFFUSION_POLICY = DiffusionPolicy()


def _check_lowdim(policy: Settings) -> None:
    policy.require("obs_as_local_cond", False, absent=False)
    policy.require("pred_action_steps_only", False, absent=False)
    # Where executed actions begin; the class's own default is one action later.
    policy.require("oa_step_convention", True, absent=False)


def _sampler(policy: Settings) -> tuple[dict[str, Any], dict[str, Any], str]:
    settings = policy.section("noise_scheduler")
    settings.require("_target_", tuple(SCHEDULERS))
    solver = SCHEDULERS[settings.values["_target_"]]
    method = scheduler_method(settings)
    asked = policy.get("num_inference_steps", (int, type(None)))
    steps = method["train_steps"] if asked is None else policy.count("num_inference_steps")
    settings.require("thresholding", False, absent=False)
    refused = ""
    if solver == "ddim":
        settings.require("set_alpha_to_one", True, absent=True)
        settings.require("steps_offset", 0, absent=0)
    else:
        settings.require("variance_type", "fixed_small", absent="fixed_small")
        refused = old_ddpm_steps(settings, steps, method["train_steps"])
    return method, {"solver": solver, "nfe": steps}, refused


def _lowdim(path: Path, policy: Settings, weights: dict[str, Tensor]) -> tuple[Observed, ...]:
    shape = (policy.count("obs_dim"),)
    return (Observed(LOWDIM_KEY, shape, _scaling(path, weights, LOWDIM_KEY, shape)),)


def _hybrid(path: Path, policy: Settings, weights: dict[str, Tensor]) -> tuple[Observed, ...]:
    """Return what robomimic's observation encoder inside the policy sees, in its order."""
    observations = policy.section("shape_meta").section("obs")
    crop = policy.get("crop_shape", (list, type(None))) or []
    if crop:  # else what is seen is random, also in use
        policy.require("eval_fixed_crop", True, absent=False)
    observed = []
    # Cameras and numbers stand in the order of the description.
    for key in observations.values:
        section = observations.section(key)
        kind = section.values.get("type", "low_dim")
        shape = tuple(section.get("shape", list))
        if kind == "low_dim":
            observed.append(Observed(key, shape, _scaling(path, weights, key, shape)))
            continue
        section.require("type", "rgb")
        if len(shape) != 3:
            raise InputError(f"{section.label}: images have shape {shape}; expected (3, h, w)")
        frame = (shape[1], shape[2], shape[0])
        scale, offset = _image_scaling(path, weights, key, shape[0])
        camera = read_camera(
            _inside(weights, f"obs_encoder.obs_nets.{key}."),
            str(path),
            frame=frame,
            resize=[],
            crop=crop,
            scale=scale,
            shift=offset,
            names=CAMERA_NAMES,
        )
        observed.append(Observed(key, frame, camera=camera))
    return tuple(observed)


def _parameters(path: Path, weights: dict[str, Tensor], key: str) -> dict[str, Array]:
    prefix = f"normalizer.params_dict.{key}."
    found = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    if not {"scale", "offset"} <= found.keys():
        known = sorted(
            {n.split(".")[2] for n in weights if n.startswith("normalizer.params_dict.")}
        )
        raise InputError(
            f"{path}: the normaliser has no scale and offset of '{key}': the statistics are "
            f"missing (found: {', '.join(known) or 'none'})"
        )
    return {n.removeprefix("input_stats."): w.double().numpy() for n, w in found.items()}


def _scaling(path: Path, weights: dict[str, Tensor], key: str, shape: tuple[int, ...]) -> Scaling:
    found = _parameters(path, weights, key)
    parts = {name: value.reshape(-1) for name, value in found.items()}
    size = int(np.prod(shape))
    scale, offset = parts["scale"], parts["offset"]
    if scale.size != size or offset.size != size or not (scale > 0).all():
        raise InputError(
            f"{path}: the normaliser has {scale.size} scales of '{key}', expected {size} positive"
        )
    names: tuple[str, ...] = ("min", "max", "mean", "std")
    data = {name: parts[name].reshape(shape) for name in names if name in parts}
    mode = "identity" if (scale == 1).all() and (offset == 0).all() else "limits"
    return scaling(mode, scale.reshape(shape), offset.reshape(shape), data=data)


def _image_scaling(
    path: Path, weights: dict[str, Tensor], key: str, channels: int
) -> tuple[Array, Array]:
    found = _parameters(path, weights, key)
    scale, offset = found["scale"].reshape(-1), found["offset"].reshape(-1)
    if scale.size not in (1, channels):
        raise InputError(f"{path}: '{key}' has {scale.size} scales; supported: 1 or {channels}")
    return np.broadcast_to(scale, channels), np.broadcast_to(offset, channels)


def _inside(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
