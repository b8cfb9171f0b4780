"""A folder of a LeRobot policy of type ``lfm`` as a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.normalizer import KeyStatistics, Normalizer
from lfm_policy.errors import InputError
from lfm_policy.importing.checkpoint import checked_weights
from lfm_policy.importing.description import Settings
from lfm_policy.importing.lerobot.policy import CONFIG, MODEL
from lfm_policy.importing.lerobot.scaling import LeRobotScaling, read_scaling
from lfm_policy.lerobot.fields import ACTION, FIELDS, TYPE, Feature, data_spec, experiment, feature
from lfm_policy.lerobot.statistics import with_data
from lfm_policy.policy.checkpoint import IMPORTED
from lfm_policy.policy.checkpoint_writer import write_checkpoint
from lfm_policy.policy.tensors import read_tensors
from lfm_runtime.disk.files import atomic_folder, exists
from lfm_runtime.disk.input_files import read_json_object
from lfm_runtime.policy.spec import DataSpec

FRAMEWORK = "LeRobot"


@dataclass(frozen=True)
class LfmFolder:
    """What such a folder holds, in our words.

    Attributes:
        config: of the policy.
        spec: of its data.
        weights: the EMA, by the names of our `PolicyModel`.
        normalizer: ours.
        training: what is known of its training.
    """

    config: ExperimentConfig
    spec: DataSpec
    weights: dict[str, Tensor]
    normalizer: Normalizer
    training: dict[str, Any]


def is_lfm(path: Path) -> bool:
    """Whether a folder is of a policy of type ``lfm``."""
    return exists(path / CONFIG) and read_json_object(path / CONFIG).get("type") == TYPE


def read_lfm(path: Path) -> LfmFolder:
    """Read a folder, which LeRobot or `export_lerobot` has written.

    Raises:
        InputError: something is missing, damaged or not supported.
    """
    label = str(path / CONFIG)
    settings = Settings(read_json_object(path / CONFIG), label, FRAMEWORK)
    settings.require("use_peft", False, absent=False)
    features, action_dim = _features(settings)
    tensors = read_tensors(path / MODEL)
    scaling = read_scaling(path, settings, {})
    fields = {field: settings.get(field, (bool, int, float, str)) for field in FIELDS}
    options = dict(settings.get("options", dict))
    steps = int(tensors.get("steps_done", torch.zeros(())))
    if steps:  # trained there: its demonstrations are a LeRobot dataset, wherever that is
        names = {f.key: f.name for f in features}
        dataset = {"name": "lerobot", "obs_keys": list(names), "rename": names}
        options |= {"name": "lerobot", "dataset": dataset}
    config = experiment(fields, options, features, scaling.modes, label=label)
    if steps:
        config = _trained_there(config, settings)
    spec = data_spec(features, action_dim)
    prefix = "ema." if any(name.startswith("ema.") for name in tensors) else "model."
    weights = {n.removeprefix(prefix): w for n, w in tensors.items() if n.startswith(prefix)}
    weights = checked_weights(weights, config, spec)
    training = settings.get("training", dict)
    return LfmFolder(
        config,
        spec,
        weights,
        _normalizer(scaling, features, action_dim),
        _record(config, weights, steps, settings) if steps or not training else training,
    )


def write_lfm(found: LfmFolder, folder: Path) -> None:
    """Write a checkpoint; it appears as a whole.

    Raises:
        InputError: the folder exists.
    """
    with atomic_folder(folder) as temporary:
        write_checkpoint(
            temporary,
            config=found.config,
            spec=found.spec,
            model_state=found.weights,
            normalizer=found.normalizer,
            training=found.training,
        )


def renamed_lfm(found: LfmFolder, names: Mapping[str, str]) -> LfmFolder:
    """Return it with other names of observations.

    Raises:
        InputError: a name is no observation's, two would have the same, or they would be in another
            order, which the weights of the encoder belong to.
    """
    known = list(found.spec.obs_shapes)
    new = {name: names.get(name, name) for name in known}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--rename: there is no observation '{unknown[0]}': {', '.join(known)}")
    if len(set(new.values())) != len(known) or {"", ACTION} & set(new.values()):
        raise InputError(f"--rename: expected different names, found {', '.join(new.values())}")
    if [new[name] for name in sorted(known)] != sorted(new.values()):
        raise InputError(
            f"--rename: {', '.join(new.values())} are in another order of the alphabet than "
            f"{', '.join(known)}, in which the encoder knows them: choose names in that order"
        )
    scaling = found.config.normalization
    keys = {new[name]: mode for name, mode in scaling.keys.items()}
    return replace(
        found,
        config=replace(found.config, normalization=replace(scaling, keys=keys)),
        spec=replace(found.spec, obs_shapes={new[k]: s for k, s in found.spec.obs_shapes.items()}),
        normalizer=Normalizer(
            {new.get(key, key): found.normalizer[key] for key in found.normalizer.keys()}  # noqa: SIM118
        ),
    )


def _features(settings: Settings) -> tuple[list[Feature], int]:
    """Return the observations, and the numbers of an action."""
    names = settings.get("names", dict)
    inputs = settings.section("input_features")
    features = []
    for key in inputs.values:
        part = inputs.section(key)
        name = names.get(key, key)
        if not isinstance(name, str) or not name or name == ACTION:
            raise InputError(f"{settings.label}: names: '{key}' is called {str(name)[:100]!r}")
        features.append(
            feature(key, name, part.get("type", str), part.get("shape", list), inputs.label)
        )
    if len({f.name for f in features}) != len(features):
        raise InputError(f"{settings.label}: names: two observations have the same")
    action = settings.section("output_features").section(ACTION).get("shape", list)
    if len(action) != 1 or type(action[0]) is not int or action[0] < 1:
        raise InputError(f"{settings.label}: actions have shape {action}; supported: one dimension")
    return features, action[0]


def _normalizer(scaling: LeRobotScaling, features: list[Feature], action_dim: int) -> Normalizer:
    def own(key: str, kind: str, shape: tuple[int, ...], *, back: bool = False) -> KeyStatistics:
        found = (scaling.back if back else scaling.statistics).get(key, {})
        tensors = {part: torch.from_numpy(value) for part, value in found.items()}
        stats = scaling.of(key, kind, shape, back=back).statistics
        return with_data(stats, tensors, f"{scaling.source}: '{key}'")

    numbers = {f.name: own(f.key, f.kind, f.shape) for f in features if not f.is_camera}
    return Normalizer({**numbers, ACTION: own(ACTION, "ACTION", (action_dim,), back=True)})


def _trained_there(config: ExperimentConfig, settings: Settings) -> ExperimentConfig:
    """Return the configuration with the steps that LeRobot trained."""
    total = settings.get("train_steps", int)
    joint = round(settings.get("joint_share", (float, int)) * total)
    changes: dict[str, Any] = {
        "encoder": "joint" if joint else "block1",
        "encoder_steps": joint,
        "total_steps": total - joint,
        "extended_from": [],
        "encoder_extended_from": [],
    }
    return replace(config, training=replace(config.training, **changes))


def _record(
    config: ExperimentConfig, weights: Mapping[str, Tensor], steps: int, settings: Settings
) -> dict[str, Any]:
    """Return what a checkpoint says of a training in LeRobot."""
    n_blocks = config.flow.n_blocks
    counts = {"encoder": 0, **{f"block {n}": 0 for n in range(1, n_blocks + 1)}}
    for name, weight in weights.items():
        part = name.split(".")
        counts["encoder" if part[0] == "encoder" else f"block {int(part[1]) + 1}"] += weight.numel()
    record: dict[str, Any] = {"steps": 0, "train_seconds": 0.0, "push_seconds": 0.0}
    record |= {"loss": None, "validation_loss": None}
    total = settings.get("train_steps", int)
    return {
        "complete": steps >= total,
        "steps": steps,
        "train_seconds": 0.0,
        "push_seconds": 0.0,
        "block_steps": [0] * n_blocks,
        "blocks": [record] * n_blocks,
        "parameters": {**counts, "total": sum(counts.values())},
        IMPORTED: {"from": FRAMEWORK, "steps": steps, "train_steps": total},
    }
