"""From a dataset to a configuration that trains on it, step by step."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lfm_policy.config import ExperimentConfig, config_to_dict, load_config
from lfm_policy.config.environment import with_environment
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.data.tools.contents import Contents
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.data.windows import windows_of_lengths
from lfm_policy.encoders.image_options import CompactConfig
from lfm_policy.errors import InputError
from lfm_policy.inspection.dataset import DatasetInspection, inspect_dataset, tasks_in_words
from lfm_policy.proposal.budget import Plan, Steps, fitted, is_near, plan_for
from lfm_policy.proposal.choices import (
    N_OBS_STEPS,
    lengths_for,
    network_for,
    normalization_for,
    tells_tasks,
    validation_for,
)
from lfm_policy.proposal.observed import Choice, Observed, choose
from lfm_policy.proposal.text import Settings, configuration
from lfm_policy.training.estimate.advice import SIDES, small_enough
from lfm_policy.training.estimate.training import DataFacts
from lfm_runtime.policy.spec import MAXIMUM_TASKS, TASK_KEY

CAMERA_BYTES = 300_000_000
"""So much of each camera is looked at: its first episodes."""

CROP = [0.9, 0.9]

DIRECT = "own/direct"
"""The configuration whose blocks are asked once each."""

WORST = ("no_action", "action_timing", "black_images", "frozen_camera", "coarse", "outlier")
"""Kinds of warnings that stand in the file, the worst first."""

MOST_WARNINGS = 6


@dataclass(frozen=True)
class ProposalOptions:
    """What may be said besides the dataset.

    Attributes:
        fps: steps per second, where the dataset does not say them or is wrong.
        action_key: what is imitated, where that is not clear.
        leave_out: arrays that the policy is not to see.
        minutes: time for everything, one student included; None: as recommended.
        direct: blocks that are asked once each from one training, instead of a policy to distil.
        device: that will train.
        quiet: no progress bars.
    """

    fps: float | None = None
    action_key: str = ""
    leave_out: Sequence[str] = ()
    minutes: float | None = None
    direct: bool = False
    device: str = "auto"
    quiet: bool = True


@dataclass(frozen=True)
class Proposal:
    """A configuration and what it is made of.

    Attributes:
        text: the file.
        config: the same, read.
        plan: how long it takes here.
        choice: what is seen and what is left out.
        warnings: what looks wrong with the dataset.
        notes: what was assumed.
        tasks: what episodes show, where the policy is told it; empty: it is told nothing.
    """

    text: str
    config: ExperimentConfig
    plan: Plan
    choice: Choice
    warnings: Sequence[str]
    notes: Sequence[str]
    tasks: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "config": config_to_dict(self.config),
            "observed": [seen.key for seen in self.choice.observed],
            "left_out": self.choice.left_out,
            "training": self.plan.training.to_dict(),
            "student": self.plan.student and self.plan.student.to_dict(),
            "said": list(self.plan.said),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def propose(
    path: str | Path, options: ProposalOptions | None = None, *, command: str = "lfm-policy init"
) -> Proposal:
    """Look at a dataset and return a configuration for it.

    Args:
        path: file or folder of a dataset of any format.
        options: what else is known.
        command: with which it was asked for, for the file.

    Raises:
        InputError: no dataset, one of which anything that could be observed is damaged, or one
            without actions, observations or episodes long enough for a chunk.
    """
    options = options or ProposalOptions()
    path = Path(path).expanduser()
    name = detect_format(path)
    inspection = inspect_dataset(
        path, action_key=options.action_key, camera_bytes=CAMERA_BYTES, quiet=options.quiet
    )
    choice = choose(inspection, options.action_key, options.leave_out)
    choice = _without_tiny_cameras(choice, path)
    if options.direct and (cameras := [seen.key for seen in choice.observed if seen.is_camera]):
        raise InputError(
            f"--direct: {', '.join(cameras)} are cameras, and an encoder learns best with small "
            "blocks: leave --direct out and train, then give the encoder new blocks (in a file: "
            "include: [FILE.yaml, shared/direct], init: {blocks: new, encoder: freeze}; lfm-policy "
            "train with --init-from), or leave the cameras out"
        )
    settings = _settings(inspection, choice, name, options, command)
    config = _read(configuration(settings))
    settings = replace(settings, env=_environment(config))
    facts = _facts(inspection, choice, settings)

    def planned(config: ExperimentConfig) -> Plan:
        return plan_for(
            config,
            facts,
            distilled=not options.direct,
            device=options.device,
            quiet=options.quiet,
        )

    plan = planned(config)
    if options.minutes is not None:
        if not is_near(plan, options.minutes) and (smaller := _smaller_frames(choice, settings)):
            settings = replace(settings, resize=smaller)
            config = _read(configuration(settings))
            plan = planned(config)
        plan = fitted(plan, options.minutes)
        if plan.steps != settings.steps:
            settings = replace(settings, steps=plan.steps)
            config = _read(configuration(settings))
            plan = replace(planned(config), said=plan.said)
    text = configuration(replace(settings, plan=plan))
    notes = list(inspection.notes)
    if not (options.fps or inspection.opened.fps):
        notes.append(f"the steps per second are not known: {settings.lengths.reason}")
    if len(inspection.tasks) > 1 and not settings.tasks:
        notes.append(
            f"{tasks_in_words(inspection.tasks)}: the policy is not told which one it is, because "
            f"that needs a task of every episode, and at most {MAXIMUM_TASKS} of them"
        )
    found = [finding.message for finding in inspection.warnings]
    return Proposal(text, _read(text), plan, choice, found, notes, settings.tasks)


def run_name(path: Path, *, direct: bool = False) -> str:
    """Return what the run of a dataset is called; both kinds of blocks may be tried."""
    name = re.sub(r"[^\w-]+", "_", path.resolve().name.split(".")[0], flags=re.ASCII)
    return f"{name or 'robot'}{'_direct' if direct else ''}"


def _settings(
    inspection: DatasetInspection,
    choice: Choice,
    format_name: str,
    options: ProposalOptions,
    command: str,
) -> Settings:
    buffer, opened = inspection.buffer, inspection.opened
    episodes = buffer.episode_lengths
    fps = options.fps or opened.fps
    lengths = lengths_for(fps, episodes)
    names = _names(choice.observed, opened)
    arrays = {
        names[seen.key]: buffer.arrays[seen.key] for seen in choice.observed if not seen.is_camera
    }
    action = buffer.arrays[choice.action_key]
    modes = normalization_for({**arrays, ACTION_KEY: action})
    horizons = (N_OBS_STEPS, lengths.horizon, lengths.n_action_steps)
    n_windows = int(windows_of_lengths(episodes, *horizons).sum())
    cameras = [seen for seen in choice.observed if seen.is_camera]
    ranked = [f for kind in WORST for f in inspection.warnings if f.kind == kind]
    ranked += [f for f in inspection.warnings if f.kind not in WORST]
    rate = f" at {fps:g} steps per second" if fps else ""
    tasks = tasks_in_words(inspection.tasks) if tells_tasks(inspection.tasks) else ""
    return Settings(
        command=command,
        summary=f"{opened.path}: {buffer.n_episodes} episodes, {buffer.n_steps:,} steps{rate} "
        f"({episodes.min()} to {episodes.max()} an episode); actions of {action.shape[1]} numbers"
        f"{tasks and f'; {tasks}'}.",
        warnings=[finding.message for finding in ranked[:MOST_WARNINGS]],
        include="own/cameras" if cameras else DIRECT if options.direct else "own/state",
        name=run_name(opened.path, direct=options.direct),
        format=format_name,
        path=str(opened.path),
        action_key=opened.action_key
        or ("" if choice.action_key == ACTION_KEY else choice.action_key),
        observed=choice.observed,
        names=names,
        rename={key: new for key, new in names.items() if new != opened.policy_name(key)},
        left_out=choice.left_out,
        tasks=tasks,
        hints=_hints(format_name, opened.path),
        validation=validation_for(episodes, lengths),
        normalization=modes,
        lengths=lengths,
        resize={},
        crop=_crop(cameras),
        network=network_for(
            n_windows, lengths.horizon, int(action.shape[1]), direct=options.direct
        ),
        direct=options.direct,
        env=None,
        steps=Steps(total_steps=load_config(DIRECT).training.total_steps)
        if options.direct
        else Steps(),
    )


def _names(observed: Sequence[Observed], opened: Contents) -> dict[str, str]:
    """Return what the policy calls each array: its usual name, or all of its key if that is taken.

    An array that is called as the action is gets another name, too.
    """
    usual = [opened.policy_name(seen.key) for seen in observed]
    names = {}
    for seen, short in zip(observed, usual, strict=True):
        taken = usual.count(short) > 1 or short in ("", ACTION_KEY)
        names[seen.key] = seen.key.replace(".", "_") if taken else short
    return names


def _crop(cameras: Sequence[Observed]) -> list[float]:
    """Return what is seen of frames, if all are large enough for a part of them."""
    seen = [CompactConfig(crop=CROP).crop_of(_resized(camera)) for camera in cameras]
    return CROP if seen and min(min(size) for size in seen) >= CompactConfig.SMALLEST else []


def _smaller_frames(choice: Choice, settings: Settings) -> dict[str, tuple[int, int]]:
    """Return the size of every camera's frames, by its name, that takes much less time.

    Empty where they are small already.
    """
    sizes = {settings.names[s.key]: _resized(s) for s in choice.observed if s.is_camera}
    smaller = {key: small_enough(size, SIDES[-1]) for key, size in sizes.items()}
    return smaller if smaller != sizes and min(map(min, smaller.values()), default=0) > 32 else {}


def _resized(camera: Observed) -> tuple[int, int]:
    height, width, channels = camera.shape
    return CompactConfig().resized((height, width, channels))


def _without_tiny_cameras(choice: Choice, path: Path) -> Choice:
    """Leave out cameras that have fewer pixels than an encoder needs."""
    smallest = CompactConfig.SMALLEST
    tiny = {
        seen.key: f"has {seen.shape[0]} x {seen.shape[1]} pixels, too few for an encoder"
        for seen in choice.observed
        if seen.is_camera and min(_resized(seen)) < smallest
    }
    kept = [seen for seen in choice.observed if seen.key not in tiny]
    if not kept:
        raise InputError(f"{path}: nothing is left that a policy could observe: {tiny}")
    return replace(choice, observed=kept, left_out=choice.left_out | tiny)


def _hints(format_name: str, path: Path) -> list[str]:
    """Return lines that may be wanted in the section of the dataset."""
    if format_name != "robomimic":
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = DATASET_FORMATS.get(format_name).facts(path).env_args
    if described is None or described.get("type") != 1:
        return []
    return [
        "# action_space: absolute  # goals instead of changes, worse with small networks; needs"
        " robosuite once"
    ]


def _environment(config: ExperimentConfig) -> tuple[str, int] | None:
    """Return where the demonstrations were recorded, if they say it and it is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = with_environment(config).env
    return (env.id, env.max_episode_steps) if env.id else None


def _facts(inspection: DatasetInspection, choice: Choice, settings: Settings) -> DataFacts:
    action = inspection.buffer.arrays[choice.action_key]
    told = {TASK_KEY: (len(inspection.tasks),)} if settings.tasks else {}
    return DataFacts(
        {settings.names[seen.key]: seen.shape for seen in choice.observed} | told,
        int(action.shape[1]),
        inspection.buffer.episode_lengths,
    )


def _read(text: str) -> ExperimentConfig:
    """Return the configuration that a file with this text is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "proposal.yaml"
        file.write_text(text, encoding="utf-8")
        config = load_config(str(file))
    assert isinstance(config.dataset, DatasetConfig)
    return config
