"""robomimic's diffusion policy: a ``.pth`` of robomimic 0.4 or 0.5."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.importing.description import ForeignPolicy, Observed, Settings, refuse_ignored
from lfm_policy.importing.scaling import Array, Scaling, identity, scaling
from lfm_policy.importing.torch_file import (
    loaded_dict,
    old_ddpm_steps,
    part,
    scheduler_method,
    tensors,
)
from lfm_policy.importing.unet import read_unet

FRAMEWORK = "robomimic"
NETWORK = "policy.noise_pred_net."
FIXED = {"channels": [256, 512, 1024], "step_embed_dim": 256, "kernel_size": 5}
FIXED_GROUPS = 8
"""Of the network that robomimic makes whatever ``algo.unet`` says."""
ACTION_RANGE = 0.999999
"""Where min_max puts the ends of actions."""
LEAST_STD = 1e-3
"""What robomimic adds to the standard deviation of observations."""
MAXIMUM_CONFIG = 1_000_000


class Robomimic:
    """Reads policies of robomimic."""

    def detects(self, path: Path) -> bool:
        """Whether there is a policy of robomimic, of whatever algorithm."""
        loaded = loaded_dict(path)
        return loaded is not None and {"algo_name", "shape_metadata"} <= loaded.content.keys()

    def read(self, path: Path, *, ignored: Collection[str] = ()) -> ForeignPolicy:
        """Read a policy.

        Args:
            path: the file.
            ignored: none, for no option is refused for being unknown.

        Raises:
            InputError: it is of another algorithm, has cameras, is incomplete or damaged.
        """
        loaded = loaded_dict(path)
        if loaded is None:
            raise InputError(f"{path}: is no file of robomimic (.pth)")
        refuse_ignored(path, ignored)
        content = loaded.content
        algorithm = part(content, path, "algo_name")
        if algorithm != "diffusion_policy":
            raise InputError(
                f"{path}: algo_name is {str(algorithm)[:60]!r}; supported: 'diffusion_policy'"
            )
        settings = _config(path, part(content, path, "config"))
        algo = settings.section("algo")
        keys = _shapes(path, part(content, path, "shape_metadata", "all_shapes"))
        method, sampler, refused = _sampler(algo)
        ema = algo.section("ema").get("enabled", bool)
        weights = tensors(path, part(content, path, "model", "ema" if ema else "nets"), "weights")
        inside = {n.removeprefix(NETWORK): w for n, w in weights.items() if n.startswith(NETWORK)}
        options, network = read_unet(
            inside,
            str(path),
            n_groups=_groups(algo, inside, str(path)),
            train_steps=method["train_steps"],
        )
        horizon = algo.section("horizon")
        action_dim = part(content, path, "shape_metadata", "ac_dim")
        stats = content.get("obs_normalization_stats")
        observed = [
            Observed(key, shape, _observation(path, stats, key, shape))
            for key, shape in keys.items()
        ]
        return ForeignPolicy(
            framework=FRAMEWORK,
            facts={"weights": "ema" if ema else "nets"},
            observed=tuple(observed),
            action=_action(path, content, settings, action_dim),
            action_dim=action_dim,
            network=options,
            weights=network,
            method=method,
            sampler=sampler,
            steps={
                "n_obs_steps": horizon.count("observation_horizon"),
                "horizon": horizon.count("prediction_horizon"),
                "n_action_steps": horizon.count("action_horizon"),
            },
            refused=refused,
        )


ROBOMIMIC = Robomimic()


def _config(path: Path, text: Any) -> Settings:
    label = f"{path}: config"
    if not isinstance(text, str) or len(text) > MAXIMUM_CONFIG:
        raise InputError(f"{label}: expected JSON, found {type(text).__name__}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{label}: not valid JSON: {str(error)[:200]}") from None
    if not isinstance(values, dict):
        raise InputError(f"{label}: expected an object, found {type(values).__name__}")
    return Settings(values, label, FRAMEWORK)


def _shapes(path: Path, shapes: Any) -> dict[str, tuple[int, ...]]:
    """Return shapes of observations in the order in which they are joined, which is sorted."""
    if not isinstance(shapes, dict) or not shapes:
        raise InputError(f"{path}: shape_metadata.all_shapes has no observations")
    found: dict[str, tuple[int, ...]] = {}
    for key, shape in shapes.items():
        sizes = list(shape) if isinstance(shape, (list, tuple)) else []
        if len(sizes) != 1 or type(sizes[0]) is not int or sizes[0] < 1:
            raise InputError(
                f"{path}: observation '{key}' has shape {shape}; supported of robomimic: numbers "
                "alone, of one dimension"
            )
        found[str(key)] = (sizes[0],)
    return found


def _sampler(algo: Settings) -> tuple[dict[str, Any], dict[str, Any], str]:
    enabled = [n for n in ("ddpm", "ddim") if algo.section(n).get("enabled", bool)]
    if len(enabled) != 1:
        raise InputError(f"{algo.label}: enables {enabled or 'no scheduler'}, expected one of both")
    name = enabled[0]
    settings = algo.section(name)
    method = scheduler_method(settings)
    steps = settings.count("num_inference_timesteps")
    refused = ""
    if name == "ddim":
        settings.require("set_alpha_to_one", True)
        settings.require("steps_offset", 0)
    else:
        refused = old_ddpm_steps(settings, steps, method["train_steps"])
    return method, {"solver": name, "nfe": steps}, refused


def _groups(algo: Settings, weights: dict[str, Any], label: str) -> int:
    """Return the groups of the norms, which weights do not say.

    robomimic makes one network whatever its configuration says; that counts only where it
    describes the weights that are there, of another network.
    """
    options, _ = read_unet(weights, label, n_groups=1, train_steps=100)
    if all(options[key] == value for key, value in FIXED.items()):
        return FIXED_GROUPS
    unet = algo.section("unet")
    said = {
        "channels": unet.get("down_dims", list),
        "step_embed_dim": unet.get("diffusion_step_embed_dim", int),
        "kernel_size": unet.get("kernel_size", int),
    }
    if any(options[key] != value for key, value in said.items()):
        raise InputError(
            f"{label}: the network has levels {options['channels']}, which is neither what "
            f"robomimic makes ({FIXED['channels']}) nor what algo.unet says ({said['channels']}): "
            "the groups of its norms are unknown"
        )
    return unet.count("n_groups")


def _numbers(path: Path, label: str, values: Any, shape: tuple[int, ...]) -> Array:
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.size != np.prod(shape) or not np.isfinite(found).all():
        raise InputError(f"{path}: {label} is not {shape} finite numbers")
    return found.reshape(shape)


def _observation(path: Path, stats: Any, key: str, shape: tuple[int, ...]) -> Scaling:
    if stats is None:  # train.hdf5_normalize_obs was off
        return identity(shape, data={})
    name = f"obs_normalization_stats.{key}"
    found = part({"obs_normalization_stats": stats}, path, "obs_normalization_stats", key)
    scale = _numbers(path, f"{name}.scale", part(found, path, "scale"), shape)
    offset = _numbers(path, f"{name}.offset", part(found, path, "offset"), shape)
    if (scale <= 0).any():
        raise InputError(f"{path}: {name}.scale is not positive")
    data = {"mean": offset, "std": np.maximum(scale - LEAST_STD, 0)}
    return scaling("standard", 1 / scale, -offset / scale, data=data)


def _action(path: Path, content: dict[str, Any], settings: Settings, action_dim: int) -> Scaling:
    """Return the scaling of actions, the parts of which are normalised each by itself."""
    train = settings.section("train")
    keys = train.get("action_keys", list)
    stats = content.get("action_normalization_stats")
    if stats is None:
        raise InputError(
            f"{path}: action_normalization_stats is missing: robomimic has written it since 0.4"
        )
    modes, scales, offsets = set(), [], []
    for key in keys:
        name = f"action_normalization_stats.{key}"
        found = part({"action_normalization_stats": stats}, path, *name.split(".", 1))
        modes.add(train.section("action_config").section(key).values.get("normalization"))
        scale = np.asarray(part(found, path, "scale"), np.float64).ravel()
        scales.append(_numbers(path, f"{name}.scale", scale, scale.shape))
        offsets.append(_numbers(path, f"{name}.offset", part(found, path, "offset"), scale.shape))
    scale, offset = np.concatenate(scales), np.concatenate(offsets)
    if scale.shape != (action_dim,) or (scale <= 0).any():
        raise InputError(
            f"{path}: actions have {scale.size} scales, expected {action_dim} positive"
        )
    if not modes <= {None, "min_max", "gaussian"}:
        raise InputError(
            f"{path}: actions are normalised by {sorted(map(str, modes))}; supported: "
            "null, min_max, gaussian"
        )
    data = {}
    if modes == {"min_max"}:
        half = ACTION_RANGE * scale
        data = {"min": offset - half, "max": offset + half}
    elif modes == {"gaussian"}:
        data = {"mean": offset, "std": scale}
    mode = {"min_max": "limits", "gaussian": "standard"}.get(str(next(iter(modes))), "identity")
    mode = mode if len(modes) == 1 else "standard"
    return scaling(mode, 1 / scale, -offset / scale, data=data)
