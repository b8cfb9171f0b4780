"""A policy of ours as the folder ``pretrained_model/`` of a LeRobot policy of type ``lfm``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lfm_policy.data.normalizer import KeyStatistics
from lfm_policy.errors import InputError
from lfm_policy.importing.lerobot.policy import CONFIG, MODEL
from lfm_policy.importing.lerobot.scaling import POSTPROCESSOR, PREPROCESSOR
from lfm_policy.lerobot.fields import ACTION, ENVIRONMENT, STATE, TYPE, Feature, split
from lfm_policy.lerobot.statistics import lerobot_mode, lerobot_statistics
from lfm_policy.policy import Policy
from lfm_policy.policy.tensors import write_tensors
from lfm_policy.version import __version__
from lfm_runtime.disk.files import atomic_folder, exists, write_json
from lfm_runtime.policy.spec import DataSpec, is_image
from lfm_runtime.registry import nearest_names

KNOWN = {
    "agent_pos": STATE,
    "state": STATE,
    "keypoints": ENVIRONMENT,
    "environment_state": ENVIRONMENT,
    "image": "observation.image",
    "pixels": "observation.image",
}
"""What LeRobot's own environments call observations that have a name of ours in ours."""


def export_lerobot(
    policy: Policy, folder: str | Path, *, rename: Mapping[str, str] | None = None
) -> Path:
    """Write a folder that LeRobot takes as ``--policy.path``, with ``lerobot_policy_lfm`` there.

    Its actions are those of the policy, with the sampler that it has now, as far as float32 can
    tell. `lfm_policy.importing.run.import_policy` makes a checkpoint of it again.

    Args:
        policy: of `load_policy`.
        folder: appears as a whole; it must not exist.
        rename: LeRobot's names of observations, by ours; the others are found, see
            `lerobot_names`.

    Returns:
        The folder.

    Raises:
        InputError: the folder exists, names are not given well, or LeRobot lacks what the policy
            needs: numbers of 64 bits, depth, or tasks by number.
    """
    folder = Path(folder)
    if exists(folder):
        raise InputError(f"{folder}: exists already; choose another folder or remove it")
    spec = policy.spec
    if spec.float64_keys:
        raise InputError(
            f"float32 cannot tell the values of {', '.join(spec.float64_keys)} apart, and LeRobot "
            "has no other numbers: subtract an offset in the demonstrations and train again"
        )
    if spec.tasks:
        raise InputError(
            f"the policy is told one of {len(spec.tasks)} tasks by a number, which LeRobot gives "
            "policies as text: train a policy of one task"
        )
    if spec.depth:
        raise InputError(
            f"{', '.join(spec.depth)} are images of depth, which LeRobot gives policies in another "
            "way: train a policy without them"
        )
    features = [
        _feature(key, name, spec.obs_shapes[name])
        for name, key in lerobot_names(spec, rename or {}).items()
    ]
    modes, statistics = _normalisation(policy, features)
    config = _config(policy, features, modes)
    with atomic_folder(folder) as temporary:
        write_json(temporary / CONFIG, config)
        weights = {f"model.{name}": w for name, w in policy.model.state_dict().items()}
        limits = policy.normalizer[ACTION]
        for end in ("min", "max"):
            value = limits.raw(end).to(policy.device)
            weights[f"action_{end}"] = policy.normalizer.normalize(ACTION, value)
        write_tensors(
            temporary / MODEL, weights | {"steps_done": torch.zeros((), dtype=torch.long)}
        )
        _write_processors(temporary, config, statistics)
    return folder


def lerobot_names(spec: DataSpec, rename: Mapping[str, str]) -> dict[str, str]:
    """Return LeRobot's name of every observation.

    What begins with ``observation.`` keeps its name, and so it is for what `KNOWN` has. A policy
    with one observation that is no image sees LeRobot's ``observation.state``. Other images are
    ``observation.images.<name>``, other numbers ``observation.<name>``.

    Args:
        spec: of the policy.
        rename: names that are given, by ours.

    Raises:
        InputError: one is no observation's, does not begin with ``observation.``, or two
            observations would have the same.
    """
    for name in rename:
        if name not in spec.obs_shapes:
            hint = nearest_names(name, list(spec.obs_shapes))
            raise InputError(f"--rename: there is no observation '{name}': {hint}")
    numbers = [name for name, shape in spec.obs_shapes.items() if not is_image(shape)]
    names = {}
    for name, shape in spec.obs_shapes.items():
        found = KNOWN.get(name)
        if name in rename:
            found = rename[name]
        elif name.startswith("observation."):
            found = name
        elif found is not None and is_image(shape) == (found == KNOWN["image"]):
            pass
        elif is_image(shape):
            found = f"observation.images.{name}"
        else:
            found = STATE if len(numbers) == 1 else f"observation.{name}"
        if not found.startswith("observation.") or found == "observation.":
            raise InputError(
                f"--rename {name}={found}: LeRobot's names of observations begin with "
                "'observation.', such as observation.state or observation.images.top"
            )
        names[name] = found
    twice = sorted(name for name in names if list(names.values()).count(names[name]) > 1)
    if twice:
        raise InputError(
            f"--rename: {' and '.join(twice)} would both be called {names[twice[0]]} in LeRobot: "
            f"choose another name for one of them, such as --rename {twice[0]}=observation."
            f"{twice[0]}"
        )
    return names


def _feature(key: str, name: str, shape: tuple[int, ...]) -> Feature:
    kind = "VISUAL" if is_image(shape) else "ENV" if key == ENVIRONMENT else "STATE"
    return Feature(key, name, kind, shape)


def _normalisation(
    policy: Policy, features: list[Feature]
) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Return the mode of every type of feature, and all statistics by flat names."""
    scaling, known = policy.config.normalization, policy.normalizer
    by_kind: dict[str, dict[str, tuple[str, KeyStatistics]]] = {"VISUAL": {}}
    for f in features:
        if not f.is_camera:
            mode = scaling.keys.get(f.name, scaling.obs)
            by_kind.setdefault(f.kind, {})[f.key] = mode, known[f.name]
    by_kind["ACTION"] = {ACTION: (scaling.action, known[ACTION])}
    modes = {"VISUAL": "IDENTITY"}
    flat: dict[str, torch.Tensor] = {}
    for kind, keys in by_kind.items():
        if not keys:
            continue
        modes[kind] = lerobot_mode(*zip(*keys.values(), strict=True))
        for key, (_, stats) in keys.items():
            own = lerobot_statistics(stats, modes[kind], action=kind == "ACTION")
            flat |= {f"{key}.{name}": value for name, value in own.items()}
    return modes, flat


def _config(policy: Policy, features: list[Feature], modes: dict[str, str]) -> dict[str, Any]:
    """Return LeRobot's ``config.json``."""
    steps = replace(policy.config.policy, n_action_steps=policy.n_action_steps)
    config = replace(policy.config, sampler=policy.pipeline.options, policy=steps)
    fields, options = split(config)
    inputs = {f.key: {"type": f.kind, "shape": f.there} for f in features}
    training = {k: v for k, v in policy.info.items() if k not in ("checkpoint", "sha256")}
    return {
        "type": TYPE,
        "input_features": inputs,
        "output_features": {ACTION: {"type": "ACTION", "shape": [policy.spec.action_dim]}},
        "device": None,
        "push_to_hub": False,
        "normalization_mapping": modes,
        **fields,
        "options": options,
        "names": {f.key: f.name for f in features},
        "training": training,
        "lfm_policy_version": __version__,
    }


def _write_processors(
    folder: Path, config: dict[str, Any], statistics: dict[str, torch.Tensor]
) -> None:
    outputs, modes = config["output_features"], config["normalization_mapping"]
    device = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}

    def normaliser(name: str, features: dict[str, Any], state: str) -> dict[str, Any]:
        options = {"eps": 1e-8, "features": features, "norm_map": modes}
        return {"registry_name": name, "config": options, "state_file": state}

    before, after = (Path(file).stem for file in (PREPROCESSOR, POSTPROCESSOR))
    names = [
        f"{before}_step_3_normalizer_processor.safetensors",
        f"{after}_step_0_unnormalizer_processor.safetensors",
    ]
    for name in names:
        write_tensors(folder / name, statistics)
    steps = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        device,
        normaliser("normalizer_processor", {**config["input_features"], **outputs}, names[0]),
    ]
    write_json(folder / PREPROCESSOR, {"name": before, "steps": steps})
    steps = [normaliser("unnormalizer_processor", outputs, names[1]), device]
    write_json(folder / POSTPROCESSOR, {"name": after, "steps": steps})
