"""Where the options of a policy stand in LeRobot's ``config.json``, and what features are.

LeRobot has one flat list of fields for a policy, which people set as ``--policy.nfe=2``. The
options that one usually sets are such fields; all others are in the field ``options``, by our own
sections::

    {"type": "lfm", "n_blocks": 3, "nfe": 6, ..., "options": {"network": {"channels": [64, 128]}}}
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lfm_policy.config import ExperimentConfig, config_from_dict, config_to_dict, stored_config
from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import DataSpec

TYPE = "lfm"
ACTION = "action"
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"

FIELDS: dict[str, tuple[str, str]] = {
    "n_obs_steps": ("policy", "n_obs_steps"),
    "horizon": ("policy", "horizon"),
    "n_action_steps": ("policy", "n_action_steps"),
    "clip_actions": ("policy", "clip_actions"),
    "max_prefix": ("policy", "max_prefix"),
    "n_blocks": ("flow", "n_blocks"),
    "network": ("network", "name"),
    "solver": ("sampler", "solver"),
    "nfe": ("sampler", "nfe"),
    "noise_scale": ("sampler", "noise_scale"),
    "obs_noise": ("training", "obs_noise"),
    "ema_decay": ("training", "ema_decay"),
    "ema_power": ("training", "ema_power"),
    "optimizer_lr": ("training", "learning_rate"),
    "optimizer_weight_decay": ("training", "weight_decay"),
    "optimizer_grad_clip_norm": ("training", "gradient_clip"),
    "scheduler_warmup_share": ("training", "warmup_share"),
}
"""Field of LeRobot's configuration -> section and option of ours."""

MODES = {
    "MIN_MAX": "limits",
    "QUANTILES": "quantiles",
    "QUANTILE10": "quantiles",
    "MEAN_STD": "standard",
    "IDENTITY": "identity",
}
"""LeRobot's name of a normalisation -> ours, or what comes nearest to it."""


@dataclass(frozen=True)
class Feature:
    """One observation.

    Attributes:
        key: LeRobot's name.
        name: ours.
        kind: LeRobot's type: ``STATE``, ``ENV`` or ``VISUAL``.
        shape: of one frame, as ours: images are (height, width, channels).
    """

    key: str
    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera image."""
        return self.kind == "VISUAL"

    @property
    def there(self) -> list[int]:
        """Its shape in LeRobot, where channels come first."""
        shape = self.shape
        return [shape[2], *shape[:2]] if self.is_camera else list(shape)


def feature(key: str, name: str, kind: str, shape: Iterable[int], label: str) -> Feature:
    """Return a feature from LeRobot's words.

    Args:
        key: LeRobot's name.
        name: ours.
        kind: LeRobot's type.
        shape: in LeRobot.
        label: of the configuration, for messages.

    Raises:
        InputError: its type is not supported, or it has no shape of that type.
    """
    sizes = tuple(shape)
    if kind not in ("STATE", "ENV", "VISUAL"):
        raise InputError(
            f"{label}: '{key}' is of type {kind[:100]}; supported: STATE, ENV and VISUAL: leave it "
            "out of input_features"
        )
    if not all(type(size) is int and size > 0 for size in sizes):
        raise InputError(f"{label}: '{key}' has shape {sizes}, expected positive sizes")
    if kind == "VISUAL":
        if len(sizes) != 3 or sizes[0] not in (1, 3, 4):
            raise InputError(
                f"{label}: images '{key}' have shape {sizes}; supported: 1, 3 or 4 channels, "
                "height, width"
            )
        sizes = (*sizes[1:], sizes[0])
    elif len(sizes) > 2:
        raise InputError(f"{label}: '{key}' has shape {sizes}; supported: at most 2 dimensions")
    return Feature(key, name, kind, sizes)


def data_spec(features: Iterable[Feature], action_dim: int) -> DataSpec:
    """Return the shapes of a policy's data."""
    return DataSpec({f.name: f.shape for f in features}, action_dim)


def experiment(
    values: Mapping[str, Any],
    options: Mapping[str, Any],
    features: Iterable[Feature],
    modes: Mapping[str, str],
    *,
    label: str,
) -> ExperimentConfig:
    """Return the configuration that fields of LeRobot describe.

    Args:
        values: of `FIELDS`.
        options: the field ``options``. What neither says has the default of today, or, where all of
            a policy is there (`split` was given it), what it meant to that policy.
        features: observations.
        modes: LeRobot's normalisation by type of feature; a type that is not there has none.
        label: for messages.

    Raises:
        InputError: an option is unknown or wrong, or stands in ``options`` although it is a field.
    """
    features = list(features)
    given: dict[str, Any] = copy.deepcopy(dict(options))
    whole = "dataset" in given
    for field, (section, key) in FIELDS.items():
        inner = given.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"{label}: options.{section}: expected keys and values")
        if key in inner:
            raise InputError(
                f"{label}: options has {section}.{key}, which is a field of its own: {field}"
            )
        inner[key] = values[field]
    counts = given["sampler"].get("block_nfe")
    if counts and sum(counts) != values["nfe"]:  # `nfe` was changed since
        given["sampler"] |= {"block_nfe": [], "block_times": []}
    if not whole:
        cameras = any(f.is_camera for f in features)
        given["encoder"] = {"name": "cameras" if cameras else "state", **given.get("encoder", {})}
        # Pushed anew in every step: a few steps of a fixed size.
        given["push_forward"] = {"solver": "heun", "n_steps": 4, **given.get("push_forward", {})}
    scaled = {f.name: MODES.get(modes.get(f.kind, "IDENTITY"), "") for f in features}
    scaled = {name: mode for name, mode in scaled.items() if mode}
    numbers = [f.name for f in features if not f.is_camera]
    obs = scaled[numbers[0]] if numbers else "limits"
    given["normalization"] = {
        "obs": obs,
        "action": MODES[modes.get("ACTION", "IDENTITY")],
        "keys": {name: scaled[name] for name in numbers if scaled[name] != obs},
    }
    return stored_config(given, label) if whole else config_from_dict(given, label)


def split(config: ExperimentConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields and the field ``options`` of a configuration, from which it is made again.

    Its normalisation is left out: LeRobot has that elsewhere.
    """
    options = config_to_dict(config)
    del options["normalization"]
    return {field: options[section].pop(key) for field, (section, key) in FIELDS.items()}, options
