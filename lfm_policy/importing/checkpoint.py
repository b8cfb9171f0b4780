"""A foreign policy as an ordinary checkpoint of ours, whose method is diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.importing.description import ForeignPolicy, Observed
from lfm_policy.policy.checkpoint import MAXIMUM_PARAMETERS, MAXIMUM_TENSORS
from lfm_policy.policy.checkpoint_writer import write_checkpoint
from lfm_policy.policy.model import tensor_shapes
from lfm_runtime.disk.files import atomic_folder
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.registry import nearest_names

if TYPE_CHECKING:
    from torch import Tensor


def renamed(policy: ForeignPolicy, names: Mapping[str, str]) -> ForeignPolicy:
    """Return the policy with other names of its observations.

    Args:
        policy: of another framework.
        names: new names by old ones.

    Raises:
        InputError: a name is no observation's, or two would have the same.
    """
    known = [observed.key for observed in policy.observed]
    for old in names:
        if old not in known:
            raise InputError(
                f"--rename: there is no observation '{old}': {nearest_names(old, known)}"
            )
    new = [names.get(key, key) for key in known]
    twice = sorted({key for key in new if new.count(key) > 1})
    if twice or "action" in new or "" in new:
        raise InputError(
            f"--rename: observations would be called {', '.join(new)}: expected different names, "
            "none of them 'action'"
        )
    observed = tuple(replace(o, key=names.get(o.key, o.key)) for o in policy.observed)
    return replace(policy, observed=observed)


def experiment(
    policy: ForeignPolicy, name: str, env: str = ""
) -> tuple[ExperimentConfig, DataSpec]:
    """Return the configuration of the policy, and the shapes of its data.

    ``env`` is the gymnasium id of the environment to evaluate it in.

    Raises:
        InputError: an option is out of the bounds of ours.
    """
    cameras = {o.key: o.camera.options for o in policy.observed if o.camera is not None}
    encoder: dict[str, Any] = {"name": "state"}
    if cameras:
        first = next(iter(cameras.values()))
        encoder = {"name": "cameras", "image": first, "shared": policy.shared_cameras}
        if any(options != first for options in cameras.values()):
            encoder |= {"cameras": cameras}
    modes = {o.key: o.scaling.mode for o in policy.observed if o.scaling is not None}
    obs = next(iter(modes.values())) if len(set(modes.values())) == 1 else "limits"
    method = dict(policy.method)
    if method["clip_sample"] and (policy.action.mode != "limits" or method["clip_range"] < 1):
        method["clip_any"] = True
    options: dict[str, Any] = {
        "name": name,
        "normalization": {
            "obs": obs,
            "action": policy.action.mode,
            "keys": {key: mode for key, mode in modes.items() if mode != obs},
        },
        # There, nothing is clipped after sampling, and noise is that of training.
        "policy": {**policy.steps, "clip_actions": False},
        "encoder": encoder,
        "network": policy.network,
        "flow": {"n_blocks": 1, "method": method},
        "sampler": {**policy.sampler, "noise_scale": 1.0},
        "env": {"id": env},
    }
    config = config_from_dict(options, f"imported from {policy.framework}")
    return config, DataSpec({o.key: o.shape for o in policy.observed}, policy.action_dim)


def model_state(
    policy: ForeignPolicy, config: ExperimentConfig, spec: DataSpec
) -> dict[str, Tensor]:
    """Return all weights by the names of our `PolicyModel`.

    Raises:
        InputError: they are not what the configuration asks for.
    """
    from lfm_policy.policy.model import create_encoder

    weights = {f"blocks.0.{name}": w for name, w in policy.weights.items()}
    columns = _columns(policy, config.policy.n_obs_steps)
    key = "blocks.0.film_cond.weight"
    found = weights[key].shape[1] if key in weights else 0
    if found != len(columns):
        sizes = ", ".join(f"{o.key} {o.size}" for o in policy.observed)
        raise InputError(
            f"the network is told {found} numbers, but {config.policy.n_obs_steps} frames of the "
            f"observations ({sizes}) have {len(columns)}"
        )
    if found:
        weights[key] = weights[key][:, columns]
    encoder = create_encoder(config, spec)
    for observed in policy.observed:
        if observed.camera is not None:
            prefix = f"encoder.{encoder.module_name(observed.key)}"  # type: ignore[operator]
            # Copies: several encoders may begin as one.
            weights |= {
                f"{prefix}.{name}": w.clone() for name, w in observed.camera.weights.items()
            }
    return checked_weights(weights, config, spec)


def checked_weights(
    weights: Mapping[str, Tensor], config: ExperimentConfig, spec: DataSpec
) -> dict[str, Tensor]:
    """Return weights in the order of our `PolicyModel`, float32.

    Raises:
        InputError: they are not what the configuration asks for.
    """
    limits = {"max_tensors": MAXIMUM_TENSORS, "max_numbers": MAXIMUM_PARAMETERS}
    shapes = tensor_shapes(config, spec, **limits)
    for name in sorted(shapes.keys() | weights.keys()):
        have = tuple(weights[name].shape) if name in weights else None
        if shapes.get(name) != have:
            raise InputError(
                f"the weight '{name}' has shape {have}, expected {shapes.get(name)}: the file's "
                "weights are not those of the network that its configuration describes"
            )
    return {name: weights[name].float() for name in shapes}


def _columns(policy: ForeignPolicy, n_obs_steps: int) -> list[int]:
    """Return where, in the foreign condition, the numbers of ours stand, which sorts by name."""
    begins, length = {}, 0
    for observed in policy.observed:
        begins[observed.key] = length
        length += observed.size
    by_name: list[Observed] = sorted(policy.observed, key=lambda o: o.key)
    frame = [column for o in by_name for column in range(begins[o.key], begins[o.key] + o.size)]
    return [step * length + column for step in range(n_obs_steps) for column in frame]


def write_policy(policy: ForeignPolicy, folder: Path, env: str = "") -> Path:
    """Write a checkpoint; it appears as a whole. ``env`` is as `experiment` has it.

    Raises:
        InputError: the folder exists, or something of the policy does not fit.
    """
    config, spec = experiment(policy, folder.name or "imported", env)
    state = model_state(policy, config, spec)
    scalings = {o.key: o.scaling for o in policy.observed if o.scaling is not None}
    scalings["action"] = policy.action
    unknown = [key for key, scaling in scalings.items() if not scaling.known_range]
    with atomic_folder(folder) as temporary:
        write_checkpoint(
            temporary,
            config=config,
            spec=spec,
            model_state=state,
            normalizer=Normalizer({key: s.statistics for key, s in scalings.items()}),
            training=_training(policy, state, unknown),
        )
    return folder


def _training(
    policy: ForeignPolicy, state: Mapping[str, Tensor], unknown_ranges: list[str]
) -> dict[str, Any]:
    counts = {"encoder": 0, "block 1": 0}
    for name, weight in state.items():
        counts["encoder" if name.startswith("encoder.") else "block 1"] += weight.numel()
    seconds = {"train_seconds": 0.0, "push_seconds": 0.0}
    record = {"steps": 0, **seconds, "loss": None, "validation_loss": None}
    imported = {"from": policy.framework, **policy.facts}
    if unknown_ranges:
        imported["ranges_unknown"] = unknown_ranges
    return {
        "complete": True,
        "steps": 0,
        **seconds,
        "block_steps": [0],
        "blocks": [record],
        "parameters": {**counts, "total": sum(counts.values())},
        "imported": imported,
    }
