"""Which arrays of a dataset a policy should see, and why the others are left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.resolution import CONSTANT_RANGE
from lfm_policy.data.tools.contents import action_alone, called_actions
from lfm_policy.errors import InputError
from lfm_policy.inspection.dataset import DatasetInspection
from lfm_policy.inspection.finding import listed
from lfm_policy.inspection.ranges import Ranges, flat
from lfm_policy.proposal.choices import tells_tasks
from lfm_runtime.policy.spec import TASK_KEY
from lfm_runtime.registry import nearest_names

OUTCOMES = {
    "reward": "a reward, which a robot does not see",
    "rewards": "a reward, which a robot does not see",
    "return": "a reward, which a robot does not see",
    "done": "the end of an episode, which a robot does not see",
    "dones": "the end of an episode, which a robot does not see",
    "terminal": "the end of an episode, which a robot does not see",
    "terminals": "the end of an episode, which a robot does not see",
    "terminated": "the end of an episode, which a robot does not see",
    "truncated": "the end of an episode, which a robot does not see",
    "success": "the outcome, which a robot does not see",
    "timestamp": "a time",
    "timestamps": "a time",
    "time": "a time",
    "index": "a count",
    "step": "a count",
}
"""Words by which an array is known to be no observation."""

FUTURE = ("next", "future", "goal_action", "target_action")


_PICTURES = ("uint8", "video", "image")
"""Types of what can be nothing but images of 0 to 255."""

_BROKEN_SAID = 3


@dataclass(frozen=True)
class Observed:
    """An array that the policy sees.

    Attributes:
        key: what the dataset calls it.
        shape: of one step.
        is_camera: whether it is a camera.
        note: its shape and range in words.
    """

    key: str
    shape: tuple[int, ...]
    is_camera: bool
    note: str


@dataclass(frozen=True)
class Choice:
    """What is imitated, what is seen, and what is left out and why, by key."""

    action_key: str
    observed: list[Observed]
    left_out: dict[str, str]


def choose(
    inspection: DatasetInspection, action_key: str = "", leave_out: Collection[str] = ()
) -> Choice:
    """Choose among the arrays of a dataset.

    Args:
        inspection: of the dataset.
        action_key: what is imitated; empty: what looks like it.
        leave_out: arrays that the policy is not to see.

    Raises:
        InputError: there is nothing to imitate or nothing to observe, an array that a policy could
            observe is broken, or one to leave out is not there.
    """
    opened, buffer, ranges = inspection.opened, inspection.buffer, inspection.ranges
    # Where the format was told, it calls the action so.
    action = ACTION_KEY if opened.action_key else action_key or _action(inspection)
    array, called = opened.stored.get(action), opened.action_key or action
    if array is None:
        near = nearest_names(called, tuple(opened.stored))
        raise InputError(f"{opened.path}: '{called}' cannot be imitated: there is none; {near}")
    if array.unusable or action not in buffer.arrays:
        why = array.not_read or "its steps are images"
        raise InputError(f"{opened.path}: '{called}' cannot be imitated: {why}")
    others = [key for key in opened.stored if key != action]
    for key in leave_out:
        if key not in others:
            near = nearest_names(key, others)
            raise InputError(f"{opened.path}: '{key}' cannot be left out: there is none; {near}")
    observed: list[Observed] = []
    left_out: dict[str, str] = {}
    broken: dict[str, str] = {}
    for key in others:
        array = opened.stored[key]
        reason = "as was asked for" if key in leave_out else _by_name(key)
        if not reason and (wrong := _why_broken(inspection, key)):
            broken[key] = wrong
            continue
        reason = reason or array.not_read
        if not reason and opened.policy_name(key) == TASK_KEY and tells_tasks(inspection.tasks):
            reason = f"'{TASK_KEY}' is what the policy is told by dataset.tasks"
        if not reason and not array.is_camera and key in buffer.arrays:
            reason = _by_values(key, action, buffer, ranges[key], observed)
        if not reason and key not in buffer.arrays and not array.is_camera:
            reason = "was not read"
        if not reason and array.is_camera and key not in inspection.cameras:
            reason = next(
                (f.message for f in inspection.warnings if f.facts.get("key") == key),
                "its images cannot be read",
            )
        if reason:
            left_out[key] = re.sub(r"\s+", " ", reason)[:200]
            continue
        shape: tuple[int, ...]
        if array.is_camera:
            camera = inspection.cameras[key]
            shape = camera.frame_shape
            note = "x".join(map(str, shape)) + f" pixels, mean grey level {camera.grey_mean:.0f}"
        else:
            shape = buffer.arrays[key].shape[1:]
            note = range_in_words(shape, ranges[key])
        observed.append(Observed(key, shape, array.is_camera, note))
    if broken:
        raise InputError(_broken_in_words(broken))
    if not observed:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in left_out.items()) or "no arrays"
        raise InputError(
            f"{opened.path}: nothing is left that a policy could observe ({reasons}); name the "
            "arrays yourself as dataset.obs_keys of a configuration"
        )
    return Choice(action, observed, left_out)


def range_in_words(shape: tuple[int, ...], ranges: Ranges) -> str:
    """Return the shape of a step and the range of its values, and what of it never changes."""
    size = "x".join(map(str, shape)) if shape else "1"
    noun = "number" if size == "1" else "numbers"
    text = f"{size} {noun}, {ranges.min.min():.4g} to {ranges.max.max():.4g}"
    constant = np.flatnonzero(ranges.max - ranges.min < CONSTANT_RANGE).tolist()
    if constant:
        named = ", ".join(map(str, constant[:8])) + (" ..." if len(constant) > 8 else "")
        text += f"; {named} never {'changes' if len(constant) == 1 else 'change'}"
    return text


def _action(inspection: DatasetInspection) -> str:
    stored = inspection.opened.stored
    if ACTION_KEY in stored:
        return ACTION_KEY
    usable = [key for key, array in stored.items() if not (array.unusable or array.is_camera)]
    if only := action_alone(usable):
        return only
    raise InputError(
        f"{inspection.opened.path}: nothing in it is called '{ACTION_KEY}': say with --action-key "
        f"what the policy should imitate, one of {', '.join(called_actions(usable) or stored)}"
    )


def _why_broken(inspection: DatasetInspection, key: str) -> str:
    """Return what is broken of an array that could be observed by its kind; empty if nothing is.

    Of cameras those of other numbers than uint8 may be depth, or shares of 255.
    """
    array = inspection.opened.stored[key]
    if array.broken:
        return array.not_read
    if key in inspection.cameras or not array.is_camera or array.dtype not in _PICTURES:
        return ""
    found = (finding for finding in inspection.warnings if finding.facts.get("key") == key)
    return next((finding.message for finding in found), "")


def _broken_in_words(broken: Mapping[str, str]) -> str:
    said = [
        f"{wrong}, or leave it out with --leave-out {shlex.quote(key)}"
        for key, wrong in list(broken.items())[:_BROKEN_SAID]
    ]
    if others := list(broken)[_BROKEN_SAID:]:
        said.append(f"broken, too: {listed(others)}")
    return re.sub(r"\s+", " ", "; ".join(said))


def _by_name(key: str) -> str:
    """Return why an array of this name is no observation; empty if it may be one."""
    if "${" in key or "???" in key:
        return "its name cannot stand in a configuration"
    words = re.split(r"[._/\-\s]+", key.lower())
    if words[0] in FUTURE or any(word in key.lower() for word in FUTURE[2:]):
        return "it is of the next step, which a robot does not know"
    if "action" in words or "actions" in words:
        return "it is an action, which the policy is to predict"
    return OUTCOMES.get(words[-1], "")


def _by_values(
    key: str, action: str, buffer: ReplayBuffer, ranges: Ranges, observed: list[Observed]
) -> str:
    """Return why an array with these values is no observation; empty if it may be one."""
    values = flat(buffer.arrays[key])
    if bool((ranges.max - ranges.min < CONSTANT_RANGE).all()):
        return "it never changes"
    if action in buffer.arrays and np.array_equal(values, flat(buffer.arrays[action])):
        return "it is the action itself"
    for other in observed:
        if not other.is_camera and np.array_equal(values, flat(buffer.arrays[other.key])):
            return f"it is the same as {other.key}"
    if values.shape[1] == 1 and _is_clock(values[:, 0], buffer):
        return "it rises by the same in every step, as a clock or a count does"
    return ""


def _is_clock(values: np.ndarray, buffer: ReplayBuffer) -> bool:
    change = np.diff(values.astype(np.float64))
    inside = np.ones(len(change), bool)
    inside[buffer.episode_ends[:-1] - 1] = False
    change = change[inside]
    return bool(len(change) > 1 and change.min() > 0 and change.max() < 1.5 * change.min())
