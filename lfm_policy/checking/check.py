"""Whether a trained policy is any good, without a simulator.

A policy is asked at instants of episodes it has not learned from, K times each with other noise.
All that is said of it follows from these chunks, the demonstrated ones, and the losses of its
blocks at the same instants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from tqdm.auto import tqdm

from lfm_policy.checking.blocks import BlockCheck, check_blocks
from lfm_policy.checking.demonstrations import (
    Demonstrations,
    Instants,
    choose,
    instants_of,
    load_demonstrations,
    training_sample,
)
from lfm_policy.checking.open_loop import (
    ActionScale,
    Errors,
    errors_of,
    open_loop,
    reference_chunks,
)
from lfm_policy.checking.result import PolicyCheck
from lfm_policy.checking.samples import joins_of, spread_of
from lfm_policy.checking.seen import copies_of_last_action, shuffled_keys
from lfm_policy.checking.subject import CheckpointSubject, ExportSubject, Subject
from lfm_policy.checkpoint_folders import run_of_checkpoint
from lfm_policy.config.sampler import SamplerChanges
from lfm_policy.data.images.cache import DEFAULT_CACHE, ImageCache
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.evaluation.chunks import outside_of
from lfm_policy.open_policy import SCHEMES, open_policy
from lfm_policy.policy import Policy
from lfm_policy.training.rows.data import IMAGE_CACHE
from lfm_runtime.export.onnx_policy import OnnxPolicy
from lfm_runtime.policy.spec import is_image

EPISODES = 40
SAMPLES = 16
TRAINING_SAMPLES = 4
"""Samples of instants of the training, whose error is all that is wanted."""


class HasBuffer(Protocol):
    """A dataset: a file, or values in memory."""

    path: Path | None

    @property
    def buffer(self) -> ReplayBuffer:
        """All values."""


def check(
    policy: str | Path | Policy | OnnxPolicy,
    *,
    data: str | Path | ReplayBuffer | HasBuffer | None = None,
    episodes: int = EPISODES,
    samples: int = SAMPLES,
    seed: int = 0,
    overrides: Sequence[str] = (),
    device: str = "auto",
    quiet: bool = True,
    **sampler: Unpack[SamplerChanges],
) -> PolicyCheck:
    """Compare a policy's chunks with demonstrated ones and say what looks wrong.

    ::

        found = check("runs/my_robot")
        print(found.verdict)
        found.plot("check.png")

    Args:
        policy: checkpoint, run folder, student, exported folder, the name of a policy of the
            package, or one that is loaded.
        data: path of demonstrations, or these themselves, such as a `lfm_policy.Dataset`; by
            default those of its training, of which the held-out episodes.
        episodes: at most so many, drawn at random.
        samples: chunks of every instant, at least 2.
        seed: of noise and choices.
        overrides: strings ``dataset.key=value`` that change how demonstrations are read, such as
            ``dataset.filter_key=valid``.
        device: of a checkpoint: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
        quiet: no progress bars.
        sampler: others than configured, see `Policy.set_sampler`.

    Returns:
        Errors beside baselines, losses of blocks, findings, a verdict.

    Raises:
        InputError: there is no such policy, its demonstrations are not there or do not fit it, or
            a number is not what it has to be.
        EvaluationError: a sampled action is not finite.
    """
    least_of = {"episodes": (episodes, 1), "samples": (samples, 2), "seed": (seed, 0)}
    for key, (value, least) in least_of.items():
        if value < least:
            raise InputError(f"{key} is {value}, expected at least {least}")
    name = "the policy" if isinstance(policy, (Policy, OnnxPolicy)) else str(policy)
    if isinstance(policy, (str, Path)):
        policy = _opened(name, device, sampler)
    elif any(value is not None for value in sampler.values()):
        raise InputError("the sampler of a policy that is loaded is changed by its set_sampler")
    config = policy.config if isinstance(policy, Policy) else None
    demonstrations = load_demonstrations(
        name,
        policy,
        config,
        data=_path_or_values(data),
        overrides=overrides,
        image_cache=_image_cache(policy),
        quiet=quiet,
    )
    demonstrations = choose(demonstrations, episodes, seed)
    try:
        return check_policy(name, policy, demonstrations, samples=samples, seed=seed, quiet=quiet)
    except FloatingPointError as error:
        raise EvaluationError(f"{name} cannot be checked: {error}") from None


def _path_or_values(
    data: str | Path | ReplayBuffer | HasBuffer | None,
) -> str | ReplayBuffer | None:
    if data is None or isinstance(data, ReplayBuffer):
        return data
    if isinstance(data, (str, Path)):
        return str(data)
    return data.buffer if data.path is None else str(data.path)


def check_policy(
    name: str,
    policy: Policy | OnnxPolicy,
    demonstrations: Demonstrations,
    *,
    samples: int,
    seed: int,
    quiet: bool = True,
) -> PolicyCheck:
    """Check a policy on chosen demonstrations; see `check`."""
    buffer = demonstrations.buffer
    chunks = reference_chunks(buffer, demonstrations.reference, policy)
    action = np.asarray(buffer.arrays[ACTION_KEY], dtype=np.float64)
    units = _units(policy, action[buffer.steps_of(demonstrations.reference)])
    subject = _subject(policy, instants_of(buffer, demonstrations.checked, policy), quiet)
    learned = training_sample(demonstrations, len(demonstrations.checked), seed)
    training: Subject | None = None
    if len(learned):
        training = _subject(policy, instants_of(buffer, learned, policy), quiet)
    instants, keys = subject.instants, tuple(policy.spec.obs_shapes)

    n_chunks = len(instants) * (samples + 2 + len(keys))
    n_chunks += 0 if training is None else TRAINING_SAMPLES * len(training.instants)
    with tqdm(total=n_chunks, desc="chunks", unit="chunk", disable=quiet, delay=1) as bar:
        subject.progress = bar.update
        noise = _noise(seed, samples, policy, len(instants))
        raw = np.stack([subject.chunks(part) for part in noise])
        shuffled = shuffled_keys(subject, keys, noise[0], units, seed)
        learned_error = None
        if training is not None:
            training.progress = bar.update
            learned_error = _training_error(training, units, seed)
    executed = subject.clipped(raw)
    loop = open_loop(executed, instants, units, chunks.mean(0))
    blocks: list[BlockCheck] = []
    if isinstance(subject, CheckpointSubject):
        assert training is None or isinstance(training, CheckpointSubject)
        blocks = check_blocks(subject, training, chunks, seed=seed, quiet=quiet)
    config = policy.config if isinstance(policy, Policy) else None
    noise_scale = float(policy.metadata["noise_scale"])
    return PolicyCheck(
        name=name,
        policy=_facts(policy),
        demonstrations=demonstrations,
        seed=seed,
        units=units,
        open_loop=dataclasses.replace(loop, training=learned_error),
        spread=spread_of(executed, instants, units),
        joins=joins_of(executed, instants, units, policy.n_action_steps),
        outside=outside_of(raw, units.low, units.high, executed=instants.executed),
        unclipped=subject.unclipped,
        shuffled=shuffled,
        copies=copies_of_last_action(instants, keys),
        cameras=tuple(key for key, shape in policy.spec.obs_shapes.items() if is_image(shape)),
        blocks=blocks,
        n_action_steps=policy.n_action_steps,
        noise_scale=noise_scale,
        complete=policy.info.get("complete") if isinstance(policy, Policy) else None,
        student=config is not None and bool(config.distill.method),
        deterministic=noise_scale == 0
        or (config is not None and config.flow.method.name == "regression"),
        instants=instants,
        samples=executed,
    )


def _opened(name: str, device: str, sampler: SamplerChanges) -> Policy | OnnxPolicy:
    if name.startswith(SCHEMES):
        raise InputError(f"{name}: a served policy takes no noise; check the one that is served")
    import torch

    policy: Policy | OnnxPolicy = open_policy(
        name, device=device, threads=torch.get_num_threads(), **sampler
    )
    return policy


def _image_cache(policy: Policy | OnnxPolicy) -> ImageCache:
    """Return where decoded frames are kept: for a run where its training keeps them, as small."""
    if not isinstance(policy, Policy):
        return ImageCache()  # graphs take frames as they are recorded
    run = run_of_checkpoint(Path(policy.info.get("checkpoint", "")))
    folder = DEFAULT_CACHE if run is None else run.parent / IMAGE_CACHE
    return ImageCache(folder, policy.config.encoder.frame_size)


def _subject(policy: Policy | OnnxPolicy, instants: Instants, quiet: bool) -> Subject:
    if isinstance(policy, Policy):
        return CheckpointSubject(policy, instants, quiet=quiet)
    return ExportSubject(policy, instants)


def _noise(seed: int, samples: int, policy: Policy | OnnxPolicy, n_rows: int) -> np.ndarray:
    """Return standard normal noise (samples, n_rows, horizon, action_dim) float32."""
    generator = np.random.default_rng(seed)
    shape = (samples, n_rows, *policy.chunk_shape)
    return generator.standard_normal(shape, dtype=np.float32)


def _units(policy: Policy | OnnxPolicy, action: np.ndarray) -> ActionScale:
    """Return the units of the actions; of an export they are those of the mode ``limits``.

    The range is that of the training, the standard deviation that of (T, action_dim) actions.
    """
    low, high = (np.asarray(end, np.float64) for end in policy.training_range(ACTION_KEY))
    if isinstance(policy, Policy):
        stats = policy.normalizer[ACTION_KEY]
        scale = stats.scale.double().cpu().numpy()
        offset = stats.offset.double().cpu().numpy()
        if stats.origin is not None:
            offset = offset - scale * stats.origin.cpu().numpy()
    else:
        spread = np.where(high - low < 1e-4, 2.0, high - low) / 2
        scale, offset = 1 / spread, -(low + high) / (2 * spread)
    return ActionScale(scale, offset, low, high, action.std(0))


def _training_error(subject: Subject, units: ActionScale, seed: int) -> Errors:
    """Return the error of one sample, on average, at instants of the training."""
    instants = subject.instants
    rows = instants.started if instants.started.any() else np.ones(len(instants), bool)
    generator = np.random.default_rng((seed, 3))
    total = np.zeros(instants.demonstrated.shape)
    for _ in range(TRAINING_SAMPLES):
        chunks = subject.executed(generator.standard_normal(total.shape, dtype=np.float32))
        total += np.abs(chunks - instants.demonstrated) / TRAINING_SAMPLES
    return errors_of(total, instants, units, rows)


def _facts(policy: Policy | OnnxPolicy) -> dict[str, Any]:
    """Return what is said of the policy in ``check.json``, plain JSON values."""
    facts = dict(policy.metadata)
    if isinstance(policy, Policy):
        facts["checkpoint"] = policy.info.get("checkpoint", "")
        facts["training_complete"] = policy.info.get("complete")
        facts["gradient_steps"] = policy.info.get("steps")
        facts["distilled_by"] = policy.config.distill.method
    else:
        facts["checkpoint"] = str(policy.folder)
        facts["gradient_steps"] = policy.description.training.get("steps")
    facts["exported"] = isinstance(policy, OnnxPolicy)
    return facts
