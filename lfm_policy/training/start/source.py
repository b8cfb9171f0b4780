"""A training that starts from a policy: what has to fit, and where its weights go."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig, InitConfig, config_to_dict
from lfm_policy.config.load import changed_config
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.encoders.cameras import CamerasEncoder
from lfm_policy.encoders.options import StateEncoderConfig
from lfm_policy.encoders.state import HistoryEncoder
from lfm_policy.errors import InputError
from lfm_policy.flow import OptionalCondition
from lfm_policy.flow.guidance import plain_network
from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.conditioning import ConditionEmbedding
from lfm_policy.plugins import registry
from lfm_policy.policy.checkpoint import (
    CheckpointHeader,
    read_model_state,
    read_normalizer,
    require_sampleable,
)
from lfm_policy.policy.model import PolicyModel, create_encoder
from lfm_policy.training.run_folder.resume import changed_options
from lfm_policy.training.start.encoder import (
    camera_weights,
    other_shapes,
    other_tasks,
    start_encoder,
    with_encoder_of,
)
from lfm_policy.training.start.weights import taken_over
from lfm_runtime.policy.spec import DataSpec, is_image

MUST_FIT = (
    *("policy.n_obs_steps", "policy.horizon", "policy.max_prefix"),
    *("encoder.name", "encoder.hidden", "encoder.activation", "encoder.history"),
    *("network", "block_networks", "flow"),
)
MAY_DIFFER = (
    *("flow.time", "flow.coupling", "flow.coupling_weight", "flow.drop_obs", "network.dropout"),
)
"""Options, or sections of them, that say what weights mean, and those of them that do not; so do
those that `MethodConfig.LEARNING` names."""

STUDENT_TIME = {"name": "points", "points": [1.0]}
"""The ``flow.time`` with which a student stays one: the only time at which it is asked."""

FAR = 0.5
"""Scaled units beyond the known range from which on a kept normaliser is warned of: a quarter of
the range that the mode 'limits' maps to -1 to 1."""


def tuned_config(source: CheckpointHeader, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Return the options of a training that starts from a checkpoint, from the checkpoint's own.

    The data are the checkpoint's where the overrides name no other. A student stays one: its blocks
    learn to answer the noise end in one step, see `lfm_policy.training.start`.

    Args:
        source: the checkpoint.
        overrides: strings ``section.key=value``.

    Raises:
        InputError: an override is wrong, or asks for new blocks without saying which.
    """
    options = config_to_dict(source.config)
    training = source.config.training
    n_blocks = source.config.flow.n_blocks
    # The numbers of targets need not be in other data: who has them says so.
    options |= {"name": f"{options['name']}-tuned", "init": {}, "auxiliary": {}}
    options["training"] |= {
        "extended_from": [],
        "encoder_extended_from": [],
        "total_steps": training.total_steps and max(training.total_steps // 10, n_blocks),
        "encoder_steps": -(-training.encoder_steps // 10),
    }
    if _of_one_evaluation(source.config):
        options["flow"]["time"] = STUDENT_TIME
    if source.config.distill.method:
        options["training"] |= {"block_training": "parallel", "warm_start": False}
    config = changed_config(options, overrides, label=str(source.folder))
    if config.init.blocks == "new":
        raise InputError(
            "init.blocks=new takes the encoder of a policy alone: give a configuration that says "
            "the blocks and their steps, such as own/direct, or the config.yaml of a run"
        )
    return config


def with_source(config: ExperimentConfig, source: CheckpointHeader) -> ExperimentConfig:
    """Return the options of a training that starts from a checkpoint.

    Raises:
        InputError: not all of its blocks have learnt, or options say other networks than it has.
    """
    require_sampleable(source)
    if config.init.blocks == "new":
        return with_encoder_of(config, source)
    may_differ = (*MAY_DIFFER, *(f"flow.method.{name}" for name in config.flow.method.LEARNING))
    differing = [
        f"{key} is {new!r}, expected {old!r}"
        for key, old, new in changed_options(source.config, config)
        if _is_below(key, MUST_FIT) and not _is_below(key, may_differ)
    ]
    if differing:
        raise InputError(
            f"{source.folder}: cannot be started from, because it has other networks than "
            f"configured: {'; '.join(differing[:5])}; leave the configuration and these options "
            "out to take those of the checkpoint"
        )
    time = config.flow.time
    if _of_one_evaluation(source.config) and (time.name, time.points) != ("points", [1.0]):
        warnings.warn(
            f"{source.folder}: is a student of one evaluation for each block, and is trained on as "
            "velocities at all times: sample what comes of it with more evaluations and distil it "
            "again, or keep the few with 'flow.time={name: points, points: [1]}' and "
            "training.block_training=parallel, as without a configuration",
            stacklevel=2,
        )
    return replace(config, init=replace(config.init, source=source.sha256))


def _of_one_evaluation(config: ExperimentConfig) -> bool:
    """Whether a policy is a student that is right in one evaluation of each block alone."""
    method = config.distill.method
    return bool(method) and registry("distillation method").get(method).one_evaluation


def kept_normalizer(config: ExperimentConfig, known: CheckpointHeader | None) -> Normalizer | None:
    """Return the normaliser whose transforms stay, None where one is fitted.

    Args:
        config: of the training.
        known: its newest checkpoint, or that from which it starts.

    Raises:
        InputError: the checkpoint from which it starts is not given, or damaged.
    """
    if not config.init.source:
        if config.init != InitConfig():
            raise InputError(
                "the section init says how a training starts from a policy, and none is given: add "
                "--init-from CHECKPOINT, or leave init out"
            )
        return None
    if known is None:
        raise InputError(
            "the training starts from a policy (init.source is "
            f"{config.init.source[:12]}...), which is not given: add --init-from CHECKPOINT"
        )
    return read_normalizer(known) if config.init.normalizer == "keep" else None


def warn_of_new_ranges(fitted: Normalizer, kept: Normalizer, source: str) -> None:
    """Say which data lie far outside of what a kept normaliser was fitted on."""
    far = {key: by for key, by in fitted.beyond(kept).items() if by > FAR}
    if far:
        listed = ", ".join(f"{key} by {by:.1f}" for key, by in far.items())
        warnings.warn(
            f"{source}: lies far outside of the data that the policy knows (in units of its "
            f"normaliser, which maps those to about -1 to 1: {listed}); if these are other units "
            "or another robot, init.normalizer=refit scales anew",
            stacklevel=2,
        )


def start_from(
    source: CheckpointHeader, model: PolicyModel, config: ExperimentConfig, spec: DataSpec
) -> None:
    """Give encoder and blocks the weights of a checkpoint, which are EMA weights.

    Observations that it does not know get columns of zeros where they enter; the networks then
    answer as before, whatever these are.

    Raises:
        InputError: other observations, actions or networks than the checkpoint's.
    """
    if config.init.blocks == "new":
        start_encoder(source, model, config, spec)
        _warn_of_other_depths(source, spec)
        return
    added = _check_data(source, config, spec)
    _warn_of_other_depths(source, spec)
    state = _with_names_of(model, read_model_state(source), source)
    if added:
        with torch.device("meta"):
            known = create_encoder(source.config, source.spec)
        state = _with_new_columns(state, known, model, source)
    model.load_state_dict(taken_over(model.state_dict(), state, source, may_lack=bool(added)))


def _with_names_of(
    model: PolicyModel, state: dict[str, Tensor], source: CheckpointHeader
) -> dict[str, Tensor]:
    """Return weights under the names of a model that may leave observations out, or does not.

    A network that always had its observations gets the vector that stands in for them as it is
    drawn; of one that can do without, that vector is left behind.
    """
    for n, network in enumerate(model.blocks):
        block, inside, none = f"blocks.{n}.", f"blocks.{n}.network.", f"blocks.{n}.none"
        optional = isinstance(network, OptionalCondition)
        if optional == bool(source.config.flow.drop_obs):
            return state
        before, now = (block, inside) if optional else (inside, block)
        state = {
            now + name.removeprefix(before) if name.startswith(before) else name: tensor
            for name, tensor in state.items()
            if name != none
        }
        if isinstance(network, OptionalCondition):
            state[none] = network.none.detach()
    return state


def _check_data(source: CheckpointHeader, config: ExperimentConfig, spec: DataSpec) -> list[str]:
    """Return the observations that the checkpoint does not know.

    Raises:
        InputError: they are to be refused, others are missing, or shapes differ.
    """
    old, new = source.spec.obs_shapes, spec.obs_shapes
    wrong = []
    if spec.action_dim != source.spec.action_dim:
        wrong.append(f"actions have {spec.action_dim} numbers, expected {source.spec.action_dim}")
    if missing := [key for key in old if key not in new]:
        wrong.append(f"observations {', '.join(missing)} are missing (see dataset.rename)")
    wrong += [*other_shapes(old, new), *other_tasks(source, spec)]
    added = [key for key in new if key not in old]
    if added and config.init.new_obs == "refuse":
        wrong.append(
            f"observations {', '.join(added)} are new to it (init.new_obs=add lets it learn them; "
            "dataset.obs_keys leaves them out)"
        )
    # What enters a frozen layer by columns of zeros never gets further.
    hidden = isinstance(config.encoder, StateEncoderConfig) and config.encoder.hidden
    unseen = [key for key in added if is_image(new[key]) or hidden]
    if unseen and config.init.encoder == "freeze":
        wrong.append(
            f"observations {', '.join(unseen)} are new to its encoder, which is not to learn "
            "(init.encoder=train lets it)"
        )
    if wrong:
        raise InputError(f"{source.folder}: these data do not fit it: {'; '.join(wrong)}")
    return added


def _warn_of_other_depths(source: CheckpointHeader, spec: DataSpec) -> None:
    for key, old in source.spec.depth.items():
        new = spec.depth.get(key)
        if new is None:
            warnings.warn(
                f"{source.folder}: sees depth by camera '{key}' from {old[0]:g} to {old[1]:g}, and "
                "these data do not say that it is depth: what comes of it takes no distances any "
                "more; say it by dataset.depth, or note it in the recording that holds levels",
                stacklevel=3,
            )
        elif new != old:
            warnings.warn(
                f"{source.folder}: told depths of camera '{key}' from {old[0]:g} to {old[1]:g} "
                f"apart, these data say {new[0]:g} to {new[1]:g}: right only if it is the same "
                "range in other units; give the policy's by dataset.depth",
                stacklevel=3,
            )


def _with_new_columns(
    state: Mapping[str, Tensor], known: ObsEncoder, model: PolicyModel, source: CheckpointHeader
) -> dict[str, Tensor]:
    """Return weights in which the history of observations has room for more of them.

    Args:
        state: of the checkpoint.
        known: its encoder, for the places of observations in its history.
        model: whose weights they are to be.
        source: the checkpoint.
    """
    encoder = model.encoder
    if not isinstance(known, HistoryEncoder) or not isinstance(encoder, HistoryEncoder):
        raise InputError(
            f"{source.folder}: its encoder '{source.config.encoder.name}' takes no more "
            "observations than it has; init.new_obs=add is for 'state' and 'cameras'"
        )
    keys = known.obs_keys
    places = [column for key in keys for column in encoder.history_columns(key)]
    places_before = [column for key in keys for column in known.history_columns(key)]
    widened = dict(state)
    if isinstance(encoder, CamerasEncoder) and isinstance(known, CamerasEncoder):
        widened = camera_weights(state, known, encoder)
    if len(encoder.layers):
        firsts = {"encoder.layers.0.weight": 0}
    else:
        firsts = {
            f"blocks.{n}.{name}.hidden.weight": part.hidden.in_features
            - cast(VelocityNetwork, plain_network(network)).cond_dim
            for n, network in enumerate(model.blocks)
            for name, part in network.named_modules()
            if isinstance(part, ConditionEmbedding)
        }
        for n, network in enumerate(model.blocks):
            if isinstance(network, OptionalCondition):
                none = torch.zeros_like(network.none)
                none[places] = state[f"blocks.{n}.none"][places_before]
                widened[f"blocks.{n}.none"] = none
    own = model.state_dict()
    n_before, n_after = len(places_before), _history_length(encoder)
    for name, begin in firsts.items():
        narrow, wide = state[name], torch.zeros_like(own[name])
        wide[:, :begin] = narrow[:, :begin]
        wide[:, [begin + column for column in places]] = narrow[
            :, [begin + column for column in places_before]
        ]
        # Behind the observations stands the prefix.
        wide[:, begin + n_after :] = narrow[:, begin + n_before :]
        widened[name] = wide
    return widened


def _history_length(encoder: HistoryEncoder) -> int:
    """Return the length of an encoder's history."""
    return sum(len(encoder.history_columns(key)) for key in encoder.obs_keys)


def _is_below(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)
