"""The rows of the episodes of a LeRobot dataset: numbers and times, checked against one another."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lfm_policy.data.assumption import warn_assumed
from lfm_policy.data.lerobot.episodes import Episode
from lfm_policy.data.lerobot.files import require_file
from lfm_policy.data.lerobot.info import MAX_STEPS, DatasetInfo, Feature
from lfm_policy.data.lerobot.tables import Column, open_parquet, read_columns
from lfm_policy.errors import InputError

_MAX_BYTES = 2**36
_MAX_RATE_ERROR = 0.05
_BOOKKEEPING = {
    "episode_index": Column(np.dtype(np.int64)),
    "frame_index": Column(np.dtype(np.int64)),
    "timestamp": Column(np.dtype(np.float64)),
}
"""Columns of LeRobot that are read where they are there. GR00T's datasets lack some; what they say
is checked or, for lack of them, follows from the list of episodes and the rate."""

_ASSUMED = {
    "episode_index": "the rows of an episode are those that the list of episodes says",
    "frame_index": "the rows of an episode are its steps, all of them and in their order",
    "timestamp": "step k of an episode is at k / fps seconds",
}


@dataclass(frozen=True)
class Rows:
    """What the parquet files hold of some episodes.

    Attributes:
        arrays: feature -> array (T, *shape) of the feature's dtype, episodes end to end.
        times: for each episode the times of its steps in seconds, (length,) float64, increasing.
        ends: number of steps up to the end of each episode, int64.
    """

    arrays: dict[str, np.ndarray]
    times: tuple[np.ndarray, ...]
    ends: np.ndarray


def read_rows(info: DatasetInfo, episodes: Sequence[Episode], features: Sequence[Feature]) -> Rows:
    """Read the rows of ``episodes``, and warn of what is taken for granted where entries of
    info.json or columns are not there.

    Args:
        info: of the dataset.
        episodes: what is read; at least one.
        features: the numeric features that are read.

    Raises:
        InputError: a file is absent or damaged, holds other episodes or steps than announced, or
            times that do not fit the dataset's fps.
    """
    _check_size(info, sum(episode.length for episode in episodes), features)
    asked = {feature.key: column_of(feature) for feature in features}
    columns, optional = _BOOKKEEPING | asked, _BOOKKEEPING.keys() - asked.keys()
    by_file: dict[Path, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_file[episode.data].append(episode)
    for path, members in by_file.items():
        require_file(path, f"episode {members[0].index} has its rows there")
    # Tables by file, but in the end in the order of the episodes.
    parts: dict[int, dict[str, np.ndarray]] = {}
    there: dict[Path, set[str]] = {}
    for path, members in by_file.items():
        table = _read_file(path, members, columns, optional)
        there[path] = _BOOKKEEPING.keys() & table.keys()
        _check_same_columns(there)
        for episode in members:
            rows = slice(episode.first_row, episode.first_row + episode.length)
            part = {name: array[rows] for name, array in table.items()}
            _check_numbering(path, episode, part)
            if "timestamp" in part:
                _check_times(path, episode, part["timestamp"][:, 0], info.fps)
            parts[episode.index] = part
    ordered = [parts[episode.index] for episode in episodes]
    found = set().union(*there.values())
    warn_assumed(info.path, info.assumed)
    warn_assumed(
        f"{info.root} (parquet files)",
        {name: text for name, text in _ASSUMED.items() if name not in found},
    )
    return Rows(
        arrays={
            feature.key: np.concatenate([part[feature.key] for part in ordered])
            for feature in features
        },
        times=tuple(
            part["timestamp"][:, 0] if "timestamp" in part else np.arange(episode.length) / info.fps
            for episode, part in zip(episodes, ordered, strict=True)
        ),
        ends=np.cumsum([episode.length for episode in episodes], dtype=np.int64),
    )


def column_of(feature: Feature) -> Column:
    """Return what the column of a numeric feature has to hold."""
    return Column(np.dtype(feature.dtype), feature.shape, "as meta/info.json says")


def _check_size(info: DatasetInfo, n_steps: int, features: Sequence[Feature]) -> None:
    if n_steps > MAX_STEPS:
        raise InputError(
            f"{info.root}: {n_steps} steps are to be read; expected at most {MAX_STEPS}: set "
            "dataset.max_episodes"
        )
    for feature in features:
        n_bytes = n_steps * math.prod(feature.shape) * np.dtype(feature.dtype).itemsize
        if n_bytes > _MAX_BYTES:
            raise InputError(
                f"{info.root}: feature '{feature.key}' of shape {list(feature.shape)} takes "
                f"{n_bytes / 2**30:.0f} GiB in {n_steps} steps; expected at most "
                f"{_MAX_BYTES / 2**30:.0f} GiB: set dataset.max_episodes or leave it out"
            )


def _read_file(
    path: Path, episodes: Sequence[Episode], columns: Mapping[str, Column], optional: Set[str]
) -> dict[str, np.ndarray]:
    first = episodes[0]
    with open_parquet(path) as file:
        n_rows = file.metadata.num_rows
        if n_rows != first.file_rows:
            raise InputError(
                f"{path}: holds {n_rows} rows; expected {first.file_rows}, the length of "
                f"episode {first.index} and of all others in this file together: the recording is "
                "incomplete, or the list of episodes under meta/ belongs to another one"
            )
        last_row = max(episode.first_row + episode.length for episode in episodes)
        lacking = optional - set(file.schema_arrow.names)
        present = {name: column for name, column in columns.items() if name not in lacking}
        return read_columns(file, path, present, last_row)


def _check_same_columns(there: Mapping[Path, set[str]]) -> None:
    """Check that the last file has the bookkeeping of the first: half of it is a hole."""
    first, *_, last = (next(iter(there)), *there)
    for name in there[first] ^ there[last]:
        without, having = (last, first) if name in there[first] else (first, last)
        raise InputError(
            f"{without}: there is no column '{name}', but {having} has it: the files belong to "
            "different recordings, or one was damaged; download or copy the dataset again"
        )


def _check_numbering(path: Path, episode: Episode, part: dict[str, np.ndarray]) -> None:
    for name, expected in (
        ("episode_index", np.full(episode.length, episode.index)),
        ("frame_index", np.arange(episode.length)),
    ):
        if name not in part:
            continue
        found = part[name][:, 0]
        if not np.array_equal(found, expected):
            wrong = int(np.argmax(found != expected))
            raise InputError(
                f"{path}: {name} is {found[wrong]} in row {episode.first_row + wrong}; expected "
                f"{expected[wrong]}, as step {wrong} of episode {episode.index}: rows are missing "
                "or in another order"
            )


def _check_times(path: Path, episode: Episode, times: np.ndarray, fps: float) -> None:
    source = f"{path}: timestamp"
    if not np.isfinite(times).all():
        wrong = int(np.argmin(np.isfinite(times)))
        raise InputError(
            f"{source} is {times[wrong]} in row {episode.first_row + wrong} (episode "
            f"{episode.index}, step {wrong}); expected seconds"
        )
    steps = np.diff(times)
    if (steps <= 0).any():
        wrong = int(np.argmax(steps <= 0)) + 1
        before, time = times[wrong - 1 : wrong + 1]
        raise InputError(
            f"{source} is {time:.9g} in row {episode.first_row + wrong}, after {before:.9g} "
            f"(episode {episode.index}, step {wrong}); expected it to increase: write seconds "
            "since the first step (float32 cannot tell those since 1970 apart)"
        )
    if len(steps) and abs(steps.mean() * fps - 1) > _MAX_RATE_ERROR:
        raise InputError(
            f"{source} increases by {steps.mean():.4g} s per step in episode {episode.index}, "
            f"which is {1 / steps.mean():.4g} fps; expected {1 / fps:.4g} s, as fps in "
            f"meta/info.json is {fps:g}: correct whichever is wrong"
        )
