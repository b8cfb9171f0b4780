"""A look at demonstrations: arrays, ranges, episodes, images, and what is wrong with them."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text
from tqdm.auto import tqdm

from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tools import contents as limits
from lfm_policy.data.tools.contents import Contents
from lfm_policy.data.tools.detect import detect_format, open_dataset
from lfm_policy.errors import InputError
from lfm_policy.inspection.cameras import VIDEO_TOLERANCE, CameraFacts, look_at_camera
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.findings import find_all
from lfm_policy.inspection.ranges import Ranges
from lfm_policy.text.numbers import counted
from lfm_policy.text.tables import TextTable
from lfm_runtime.disk.files import temporary_folder
from lfm_runtime.registry import nearest_names

EPISODES_DRAWN = 6
"""Episodes whose frames and actions are drawn."""

WARNINGS_PER_KIND = 10
"""So many warnings of one kind are printed; all are in the JSON."""


@dataclass(frozen=True)
class DatasetInspection:
    """Findings about one dataset.

    Attributes:
        opened: where it is, its format and the metadata of every array.
        buffer: the low-dimensional arrays.
        ranges: their statistics by key.
        cameras: what was seen of the images, by key.
        warnings: what looks wrong.
        notes: what was taken for granted, and what was not looked at.
        episodes_drawn: episodes whose actions are drawn.
        tasks: number of episodes that show a task, by its name, in the order of their first ones;
            those that say none are under "". Empty where nothing says it.
    """

    opened: Contents
    buffer: ReplayBuffer
    ranges: dict[str, Ranges]
    cameras: dict[str, CameraFacts]
    warnings: list[Finding]
    notes: list[str]
    episodes_drawn: list[int]
    tasks: dict[str, int] = field(default_factory=dict)

    @property
    def not_looked_at(self) -> dict[str, str]:
        """Why the values of an array were not read, or not all of them, by its key."""
        reasons = {}
        for key, array in self.opened.stored.items():
            camera = self.cameras.get(key)
            if array.unusable:
                reasons[key] = "not usable"
            elif camera is not None and camera.n_frames < self.buffer.n_steps:
                reasons[key] = f"{camera.n_frames:,} of {self.buffer.n_steps:,} images read"
            elif camera is None and key not in self.ranges:
                reasons[key] = array.not_read.removesuffix(": not read") or "not read"
        return reasons

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        lengths = self.buffer.episode_lengths
        arrays: dict[str, Any] = {}
        for key, array in self.opened.stored.items():
            arrays[key] = {"shape": list(array.shape), "dtype": array.dtype}
            if key in self.ranges:
                arrays[key] |= self.ranges[key].to_dict()
            elif key in self.cameras:
                arrays[key] |= self.cameras[key].to_dict()
        return {
            "kind": "dataset",
            "path": str(self.opened.path),
            "format": self.opened.format,
            "fps": self.opened.fps,
            "episodes": self.buffer.n_episodes,
            "steps": self.buffer.n_steps,
            "episode_length": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "max": int(lengths.max()),
            },
            "tasks": self.tasks,
            "arrays": arrays,
            "not_looked_at": self.not_looked_at,
            "warnings": [finding.to_dict() for finding in self.warnings],
            "notes": self.notes,
        }

    def print(self) -> None:
        """Print tables to standard output, then the warnings."""
        buffer, console = self.buffer, Console(highlight=False)
        lengths = buffer.episode_lengths
        console.print(
            f"{self.opened.path}: {buffer.n_episodes} episodes, {buffer.n_steps:,} steps; "
            f"lengths {lengths.min()} to {lengths.max()}, median {np.median(lengths):g}",
            soft_wrap=True,
        )
        fps = self.opened.fps
        rate = "" if fps is None else f", {fps:g} steps per second"
        console.print(f"format {self.opened.format}{rate}")
        if self.tasks:
            console.print(Text(tasks_in_words(self.tasks)), soft_wrap=True)
        self._arrays_table().print()
        self._ranges_table().print()
        for note in self.notes:
            console.print(Text(f"note: {note}"), soft_wrap=True)
        self._print_warnings(console)

    def _arrays_table(self) -> TextTable:
        words = ("shape", "dtype", "remark")
        table = TextTable("array", *words, words=words)
        for key, array in self.opened.stored.items():
            remark = "not usable: see below" if array.unusable else array.not_read
            if array.is_camera:
                camera = self.cameras.get(key)
                remark = (
                    "images: not read"
                    if camera is None
                    else f"{camera.n_frames:,} images read: mean grey level "
                    f"{camera.grey_mean:.1f}, standard deviation {camera.grey_std:.1f}"
                )
            table.add_row(f"{self.opened.prefix}{key}", str(array.shape), array.dtype, remark)
        return table

    def _ranges_table(self) -> TextTable:
        table = TextTable("dimension", "min", "1%", "99%", "max", "mean", "std")
        for key, stats in self.ranges.items():
            columns = (stats.min, stats.q01, stats.q99, stats.max, stats.mean, stats.std)
            for d, numbers in enumerate(zip(*columns, strict=True)):
                texts = [f"{number:.4g}" for number in numbers]
                table.add_row(f"{key}[{d}]", *texts)
        return table

    def _print_warnings(self, console: Console) -> None:
        # Text throughout, because rich would read the brackets of `action[0]` as markup
        counts = Counter(finding.kind for finding in self.warnings)
        left = dict.fromkeys(counts, WARNINGS_PER_KIND)
        for finding in self.warnings:
            left[finding.kind] -= 1
            if left[finding.kind] >= 0:
                console.print(Text(f"warning: {finding.message}", "yellow"), soft_wrap=True)
        for kind, count in counts.items():
            if count > WARNINGS_PER_KIND:
                more = f"{count - WARNINGS_PER_KIND} more warnings of kind {kind}: see --json"
                console.print(Text(f"warning: {more}", "yellow"), soft_wrap=True)
        n_stored, left_out = len(self.opened.stored), self.not_looked_at
        unread = listed([f"{key} ({reason})" for key, reason in left_out.items()])
        unread = f"not looked at: {unread}" if left_out else ""
        if not self.warnings:
            where = f" in {n_stored - len(left_out)} of {n_stored} arrays; " if left_out else ""
            unread = f"no warnings{where}{unread}"
        if unread:
            console.print(Text(unread), soft_wrap=True)

    def plot(self, path: Path) -> None:
        """Write a PNG; see `lfm_policy.inspection.dataset_plot.dataset_figure`."""
        from lfm_policy.inspection.dataset_plot import dataset_figure
        from lfm_policy.pictures import drawing, save

        name, shown = self.opened.path.name, self.episodes_drawn
        with drawing():
            save(dataset_figure(name, self.buffer, self.ranges, self.cameras, shown), path)


def tasks_in_words(tasks: Mapping[str, int]) -> str:
    """Return ``"2 tasks: push (6), fold (5)"``, and how many episodes say none."""
    named = [f"{_short(name)} ({count})" for name, count in tasks.items() if name]
    text = f"{counted(len(named), 'task')}: {listed(named)}"
    return f"{text}; {counted(tasks[''], 'episode')} of none" if "" in tasks else text


def _short(name: str) -> str:
    return f"{' '.join(name.split()):.100}"


def inspect_dataset(
    path: Path,
    *,
    action_key: str = "",
    seed: int = 0,
    camera_bytes: int | None = None,
    quiet: bool = True,
) -> DatasetInspection:
    """Read a dataset of any format, except what is too large to look at whole.

    Images are decoded into a temporary folder, one camera at a time, and are gone afterwards; of
    a camera that would need more than `contents.LARGEST_CAMERA_BYTES` there, or more than half of
    the free disk, the first episodes are looked at. Images that cannot be read are a warning.

    Args:
        path: file or folder of a dataset.
        action_key: the array to imitate, where it is not the one that looks like it.
        seed: chooses the episodes that are drawn.
        camera_bytes: so much of a camera is looked at, decoded; `contents.LARGEST_CAMERA_BYTES` by
            default.
        quiet: no progress bars.

    Raises:
        InputError: no dataset of a known format, a damaged one, or one without that action.
    """
    opened = open_dataset(path, action_key)
    tasks, not_told = _tasks(path)
    if action_key and not opened.action_key and action_key not in opened.stored:
        near = nearest_names(action_key, tuple(opened.stored))
        raise InputError(f"{path}: there is no array '{action_key}' to imitate: {near}")
    buffer = opened.read_values()
    bar = tqdm(buffer.arrays.items(), desc="ranges", unit="array", disable=quiet, delay=1)
    ranges = {key: Ranges.of(array) for key, array in bar}

    cameras: dict[str, CameraFacts] = {}
    findings = [
        Finding("unusable_array", f"{key} is not usable: {array.not_read}", {"key": key})
        for key, array in opened.stored.items()
        if array.unusable
    ]
    if not action_key and ACTION_KEY not in opened.stored:
        action = f"{opened.prefix}{ACTION_KEY}"
        message = (
            f"there is no {action} for a policy to imitate: name another array as "
            f"dataset.action_key, or write {action}, (steps, dim). Recordings of states alone, "
            "such as UMI's, become goals: the action of a step is the pose of the next"
        )
        findings.append(Finding("no_action", message))
    findings += [Finding("reader", remark) for remark in opened.remarks]
    notes = []
    most = limits.LARGEST_CAMERA_BYTES if camera_bytes is None else camera_bytes
    for key in opened.cameras:
        n_episodes = _episodes_that_fit(opened, key, buffer, most)
        if n_episodes < buffer.n_episodes:
            notes.append(
                f"of the images {key}, those of the first {n_episodes} of {buffer.n_episodes} "
                "episodes were looked at: all would take too much time or temporary disk"
            )
        if not n_episodes:
            continue
        try:
            with temporary_folder() as folder:
                cameras[key] = look_at_camera(
                    f"{opened.prefix}{key}",
                    opened.open_camera(key, buffer, n_episodes, folder, quiet=quiet),
                    buffer,
                    episodes_shown=_choose_episodes(n_episodes, seed),
                    tolerance=VIDEO_TOLERANCE if opened.stored[key].dtype == "video" else 0,
                    quiet=quiet,
                )
        except InputError as error:
            message = f"{key} is not usable: {error}"
            findings.append(Finding("unusable_images", message, {"key": key}))
    if not_told:
        message = f"the tasks of the episodes cannot be read: {not_told}"
        findings.append(Finding("unusable_tasks", message))
    found, found_notes = find_all(
        buffer, ranges, cameras, fps=opened.fps, policy_name=opened.policy_name
    )
    return DatasetInspection(
        opened,
        buffer,
        ranges,
        cameras,
        warnings=findings + found,
        notes=opened.notes + notes + found_notes,
        episodes_drawn=_choose_episodes(buffer.n_episodes, seed),
        tasks=tasks,
    )


def _tasks(path: Path) -> tuple[dict[str, int], str]:
    """Return the number of episodes of every task, and why it cannot be told."""
    options: dict[str, Any] = {"path": str(path)}
    config = DATASET_FORMATS.get(detect_format(path))(**options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # who reads the values says the same
            return dict(Counter(config.episode_tasks())), ""
    except InputError as error:  # a policy of one task does without
        return {}, str(error)


def _choose_episodes(n_episodes: int, seed: int) -> list[int]:
    """Return episodes to draw, in their order; the same for cameras that have all episodes."""
    chosen = np.random.default_rng(seed).permutation(n_episodes)[:EPISODES_DRAWN]
    return sorted(chosen.tolist())


def _episodes_that_fit(opened: Contents, key: str, buffer: ReplayBuffer, most: int) -> int:
    """Return how many of the first episodes' images may be decoded into the temporary folder."""
    room = min(most, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    frame_bytes = int(np.prod(opened.stored[key].shape[1:]))
    return int(np.searchsorted(buffer.episode_ends * frame_bytes, room, side="right"))
