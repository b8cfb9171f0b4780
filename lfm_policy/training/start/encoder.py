"""A training that takes the encoder of a policy, and has new blocks (``init.blocks: new``)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.encoders.cameras import CamerasEncoder
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader, read_model_state
from lfm_policy.policy.model import PolicyModel, create_encoder
from lfm_policy.training.run_folder.resume import changed_options
from lfm_policy.training.start.weights import taken_over
from lfm_runtime.policy.spec import DataSpec, is_image

PREFIX = "encoder."
"""What the names of an encoder's weights begin with, and of its options."""

Shape = Sequence[int]

RESOLVED = "auto"
"""An option that the data decide, as they did for the policy."""


def with_encoder_of(config: ExperimentConfig, source: CheckpointHeader) -> ExperimentConfig:
    """Return the options of a training whose section ``encoder`` is that of a checkpoint.

    Raises:
        InputError: its encoder has no weights, or goes on learning in a way that is not said.
    """
    encoder = source.config.encoder
    if not encoder.learns:
        raise InputError(
            f"{source.folder}: its encoder '{encoder.name}' has no weights, so that with "
            "init.blocks=new nothing of it is left; leave out --init-from, or init.blocks"
        )
    if config.encoder.name != encoder.name and config.init.encoder == "train":
        raise InputError(
            f"{source.folder}: its encoder is '{encoder.name}', and the configuration, which has "
            f"'{config.encoder.name}', does not say how it goes on learning: leave it as it is by "
            f"init.encoder=freeze, or set encoder.name={encoder.name} and training.encoder_steps"
        )
    differing = [
        f"{key} is {old!r}, and not {new!r}"
        for key, old, new in changed_options(source.config, config)
        if key.startswith(PREFIX) and new not in (None, RESOLVED)
    ]
    if differing and config.encoder.name == encoder.name:
        warnings.warn(
            f"the encoder is that of {source.folder}, whatever is configured: "
            f"{'; '.join(differing[:5])}",
            stacklevel=3,
        )
    return replace(config, encoder=encoder, init=replace(config.init, source=source.sha256))


def start_encoder(
    source: CheckpointHeader, model: PolicyModel, config: ExperimentConfig, spec: DataSpec
) -> None:
    """Give the encoder the weights of a checkpoint, which are EMA weights; blocks stay as they are.

    Raises:
        InputError: other cameras than the checkpoint's, or other observations where these go
            through layers of the encoder too.
    """
    encoder = model.encoder
    with torch.device("meta"):
        known = create_encoder(source.config, source.spec)
    state = read_model_state(source)
    apart = False
    if isinstance(encoder, CamerasEncoder) and isinstance(known, CamerasEncoder):
        state = camera_weights(state, known, encoder)
        apart = not len(encoder.layers)
    _check_observations(source, config, spec, apart=apart)
    own = {PREFIX + name: tensor for name, tensor in encoder.state_dict().items()}
    weights = taken_over(own, state, source, may_lack=apart)
    encoder.load_state_dict({k.removeprefix(PREFIX): tensor for k, tensor in weights.items()})


def camera_weights(
    state: Mapping[str, Tensor], known: CamerasEncoder, encoder: CamerasEncoder
) -> dict[str, Tensor]:
    """Return weights with those of each camera under the number that it has in another encoder.

    Cameras are numbered, and others may have come between them, or gone.

    Args:
        state: all weights of a policy.
        known: the policy's encoder.
        encoder: whose weights they are to be.
    """
    moved = {k: v for k, v in state.items() if not k.startswith(f"{PREFIX}image_encoders.")}
    for key in known.image_keys:
        if key not in encoder.image_keys:
            continue
        before, after = (f"{PREFIX}{e.module_name(key)}." for e in (known, encoder))
        moved |= {
            after + name.removeprefix(before): tensor
            for name, tensor in state.items()
            if name.startswith(before)
        }
    return moved


def _check_observations(
    source: CheckpointHeader, config: ExperimentConfig, spec: DataSpec, *, apart: bool
) -> None:
    """Check that an encoder can see what it is to see.

    Args:
        source: whose encoder it is.
        config: of the training.
        spec: its data.
        apart: whether each camera has an encoder of its own and nothing else has weights.

    Raises:
        InputError: it cannot.
    """
    before, now = dict(source.spec.obs_shapes), dict(spec.obs_shapes)
    wrong = []
    if apart:
        before, now = ({k: s for k, s in each.items() if is_image(s)} for each in (before, now))
        unknown = [key for key in now if key not in before]
        if len(unknown) == len(now):
            wrong.append(f"it sees {_listed(before)}, these data {_listed(now)} (dataset.rename)")
        elif unknown and config.init.encoder == "freeze":
            wrong.append(
                f"cameras {_listed(unknown)} are new to it, and it is not to learn "
                "(init.encoder=train lets it)"
            )
    else:
        if list(before) != list(now):
            wrong.append(f"observations are {_listed(now)}, expected {_listed(before)}")
        frames = source.config.policy.n_obs_steps
        if config.policy.n_obs_steps != frames:
            wrong.append(f"policy.n_obs_steps is {config.policy.n_obs_steps}, expected {frames}")
        wrong += other_tasks(source, spec)
    wrong += other_shapes(before, now)
    if wrong:
        raise InputError(
            f"{source.folder}: its encoder does not fit these data: {'; '.join(wrong)}"
        )


def other_shapes(before: Mapping[str, Shape], now: Mapping[str, Shape]) -> list[str]:
    """Return, in words, which observations that a policy knows have other shapes now."""
    return [
        f"observation '{key}' has shape {tuple(now[key])}, expected {tuple(shape)}"
        for key, shape in before.items()
        if key in now and tuple(now[key]) != tuple(shape)
    ]


def other_tasks(source: CheckpointHeader, spec: DataSpec) -> list[str]:
    """Return, in words, that data tell other tasks than a policy knows; nothing if they do not."""
    known = source.spec.tasks
    if not known or spec.tasks == known:
        return []
    told = ", ".join(spec.tasks) or "not told"
    return [f"tasks are {told}, expected {', '.join(known)} in this order (dataset.tasks)"]


def _listed(keys: Mapping[str, object] | list[str]) -> str:
    return ", ".join(keys) or "no camera"
