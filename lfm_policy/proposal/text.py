"""A proposed configuration as YAML, with a reason beside every line that one may want to change."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lfm_policy.proposal.budget import Plan, Steps
from lfm_policy.proposal.choices import Lengths, Network
from lfm_policy.proposal.observed import Observed
from lfm_policy.text.numbers import duration, size

WIDTH = 100


@dataclass(frozen=True)
class Settings:
    """All that is written.

    Attributes:
        command: that wrote it.
        summary: the dataset in a sentence.
        warnings: the worst ones.
        include: bundled configuration that it begins with.
        name: of the run.
        format: of the dataset.
        path: of the dataset.
        action_key: what is imitated, where that has to be said.
        observed: what the policy sees.
        names: what policy and robot call what is seen, by key.
        rename: those of them that have to be said.
        left_out: key -> why.
        tasks: what episodes show, where the policy is told it; empty: it is told nothing.
        hints: further lines of the section ``dataset``, as comments.
        validation: ratio and reason.
        normalization: mode by observation, and of ``"action"``, where it is not ``limits``.
        lengths: of the chunk.
        resize: height and width by camera, where they are not to be chosen in training.
        crop: what is seen of frames; empty for all.
        network: of every block.
        direct: blocks are asked once each, and there are no students.
        env: id and most steps of an episode, where the dataset says them.
        steps: of training and student.
        plan: estimates; None before they are made.
    """

    command: str
    summary: str
    warnings: Sequence[str]
    include: str
    name: str
    format: str
    path: str
    action_key: str
    observed: Sequence[Observed]
    names: dict[str, str]
    rename: dict[str, str]
    left_out: dict[str, str]
    tasks: str
    hints: Sequence[str]
    validation: tuple[float, str]
    normalization: dict[str, str]
    lengths: Lengths
    resize: dict[str, tuple[int, int]]
    crop: list[float]
    network: Network
    direct: bool
    env: tuple[str, int] | None
    steps: Steps
    plan: Plan | None = None

    @property
    def has_cameras(self) -> bool:
        """Whether the policy sees images."""
        return any(seen.is_camera for seen in self.observed)


def configuration(settings: Settings) -> str:
    """Return the file."""
    sections = [
        _head(settings),
        _dataset(settings),
        _policy(settings),
        _networks(settings),
        _training(settings),
        _students(settings),
        _env(settings),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _head(s: Settings) -> list[str]:
    lines = comment(
        f"Written by `{s.command}`; every line can be changed, and what is not here "
        "is explained by `lfm-policy train FILE --options`."
    )
    lines += comment(s.summary)
    if s.plan is not None:
        training, student, both = s.plan.training, s.plan.student, s.plan.estimates
        distilled = "" if student is None else f", a student about {duration(student.seconds)}"
        lines += comment(
            f"On {training.device} training takes about {duration(training.seconds)}{distilled}; "
            f"memory up to {size(max(each.memory_bytes for each in both))}, disk "
            f"{size(sum(sum(each.disk_bytes.values()) for each in both))}."
        )
        busy = next((each.busy for each in both if each.busy), "")
        advice = [sentence for each in both for sentence in each.advice]
        for sentence in (busy, *s.plan.said, *advice):
            lines += comment(sentence) if sentence else []
    for warning in s.warnings:
        lines += comment(f"WARNING: {warning}")
    lines.append(f"include: [{s.include}]  # the recipe, which comes with lfm-policy")
    return [*lines, f"name: {scalar(s.name)}  # of the run, which is kept in runs/{s.name}"]


def _dataset(s: Settings) -> list[str]:
    ratio, reason = s.validation
    lines = ["dataset:", f"  name: {scalar(s.format)}", f"  path: {scalar(s.path)}"]
    if s.action_key:
        lines.append(f"  action_key: {scalar(s.action_key)}  # what the policy imitates")
    lines += [f"  {line}" for line in s.hints]
    renamed = any(name != key for key, name in s.names.items())
    under = "the names after #" if renamed else "these names"
    lines.append(f"  obs_keys:  # what the policy sees: the robot must have it, under {under}")
    for seen in s.observed:
        name = f"{one_line(s.names[seen.key])}: " if renamed else ""
        lines.append(f"    - {scalar(seen.key)}  # {name}{one_line(seen.note)}")
    lines += [
        f"    # left out: {one_line(key)}: {one_line(why)}" for key, why in s.left_out.items()
    ]
    if s.rename:
        lines.append("  rename:  # what the policy calls them")
        lines += [f"    {scalar(key)}: {scalar(name)}" for key, name in s.rename.items()]
    if s.tasks:
        lines.append(
            '  tasks: ["*"]  # all: the policy is told which, as `task`; [] tells it nothing'
        )
    lines.append(f"  validation_ratio: {ratio:g}  # {reason}")
    lines += ["", "normalization:"]
    action = s.normalization.get("action", "limits")
    why = {"quantiles": "outliers would squeeze all others", "limits": "to [-1, 1]"}
    lines.append("  obs: limits  # to [-1, 1]; quantiles, standard or identity")
    lines.append(f"  action: {action}  # {why[action]}")
    keys = {key: mode for key, mode in s.normalization.items() if key != "action"}
    if keys:
        lines.append("  keys:")
        lines += [f"    {scalar(key)}: {mode}  # {why[mode]}" for key, mode in keys.items()]
    return lines


def _policy(s: Settings) -> list[str]:
    return [
        "policy:",
        "  n_obs_steps: 2  # frames of history: two show how things move",
        f"  horizon: {s.lengths.horizon}  # actions of a chunk: {s.lengths.reason}",
        f"  n_action_steps: {s.lengths.n_action_steps}  # of these are executed; fewer react "
        "sooner, more are smoother",
    ]


def _networks(s: Settings) -> list[str]:
    lines = []
    if s.has_cameras:
        lines += [
            "encoder:",
            "  name: cameras",
            "  image:",
            "    name: compact  # made for CPUs; resnet18 on a GPU",
            "    # Frames whose longer side is above 128 pixels are made smaller, once.",
            *_resize(s),
        ]
        if s.crop:
            shares = ", ".join(f"{share:g}" for share in s.crop)
            lines.append(
                f"    crop: [{shares}]  # share of height and width: random in training, else the "
                "centre"
            )
        if len(set(s.resize.values())) > 1:
            lines.append("  cameras:  # height and width of each: for the time there is")
            lines += [
                f"    {scalar(key)}: {{resize: [{height}, {width}]}}"
                for key, (height, width) in s.resize.items()
            ]
    else:
        lines += ["encoder:", "  name: state"]
    return [
        *lines,
        "",
        "network:  # of every block",
        *_network(s.network),
        "",
        "flow:",
        "  n_blocks: 3  # the recipe that won in docs/results/; 1 is plain flow matching",
        "",
        "sampler:",
        *(
            _asked_once()
            if s.direct
            else ["  nfe: 16  # evaluations per chunk; students take 1 or 2"]
        ),
        "  noise_scale: 0.6  # below 1: nearer to the most likely chunk; 1: all that was shown",
    ]


def _network(network: Network) -> list[str]:
    lines = [f"  {key}: {scalar(value)}" for key, value in network.options.items()]
    return [lines[0], f"{lines[1]}  # {network.reason}", *lines[2:]]


def _asked_once() -> list[str]:
    return [
        "  nfe: 3  # evaluations per chunk, one of each block: they learn to need no more",
        "  renoise: 0.6  # share of each block's noise that it is given again",
    ]


def _resize(s: Settings) -> list[str]:
    sizes = sorted(set(s.resize.values()))
    if len(sizes) != 1:
        return ["    # resize: [96, 128]  # height and width"]
    return [
        f"    resize: [{sizes[0][0]}, {sizes[0][1]}]  # height and width: for the time there is"
    ]


def _training(s: Settings) -> list[str]:
    lines = ["training:"]
    if s.has_cameras:
        lines += [
            f"  encoder_steps: {s.steps.encoder_steps}  # encoder first, with all blocks",
            "  encoder_batch_size: 64",
            "  encoder_draws: 8  # noises of a chunk for each look: the encoder learns sooner",
            f"  encoder_views: {s.steps.encoder_views}  # random crops of a frame, afterwards",
        ]
    return [
        *lines,
        f"  total_steps: {s.steps.total_steps}  # gradient steps of all blocks together",
        "  batch_size: 256",
        "  obs_noise: 0.02  # tolerance of small differences; 0 where a hair's breadth matters",
        *(["  feature_noise: 0.05  # the same for what is seen"] if s.has_cameras else []),
    ]


def _students(s: Settings) -> list[str]:
    if s.direct:
        return []
    return [
        "distill:  # students, which take one network evaluation or two: lfm-policy distill",
        f"  samples: {s.steps.samples}  # of the teacher for every step of the demonstrations",
        "  training:",
        f"    total_steps: {s.steps.student_steps}",
    ]


def _env(s: Settings) -> list[str]:
    if s.env is None:
        return []
    env_id, steps = s.env
    return [
        "env:  # where the demonstrations say that they were recorded",
        f"  id: {scalar(env_id)}",
        f"  max_episode_steps: {steps}",
    ]


def comment(text: str) -> list[str]:
    """Return a paragraph as comments."""
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return textwrap.wrap(
        one_line(text),
        WIDTH,
        initial_indent=f"# {indent}",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def one_line(text: str) -> str:
    """Return text without line breaks and other signs that a comment must not have."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()


def scalar(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, str) and not re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return json.dumps(value)  # which YAML reads, too
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]
