"""Which rows of which files are an episode of a LeRobot dataset, in versions 2 and 3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.data.lerobot.files import require_file
from lfm_policy.data.lerobot.info import MAX_STEPS, DatasetInfo, Feature
from lfm_policy.data.lerobot.tables import Column, check_column, open_parquet, read_columns
from lfm_policy.errors import InputError, brief

_MAX_LINE_BYTES = 2**20
_INTEGER, _SECONDS = Column(np.dtype(np.int64)), Column(np.dtype(np.float64))


@dataclass(frozen=True)
class VideoSpan:
    """Where the frames of one episode and camera are.

    Attributes:
        path: the video.
        start: time of the first frame in it, in seconds.
        end: time in it at which the episode is over, in seconds; infinity where it is not known.
    """

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class Episode:
    """Where one episode is.

    Attributes:
        index: its number in the dataset.
        length: number of steps, at least 1.
        data: parquet file that holds its rows.
        first_row: where they begin in it.
        file_rows: number of rows of the whole file, other episodes' included.
        videos: camera -> where its frames are.
    """

    index: int
    length: int
    data: Path
    first_row: int
    file_rows: int
    videos: Mapping[str, VideoSpan]


def read_episodes(info: DatasetInfo, video_keys: Sequence[str]) -> tuple[Episode, ...]:
    """Return all episodes in order of their index, without a look at data or videos.

    Args:
        info: of the dataset.
        video_keys: the features of dtype video that are read; `check_listed` takes them.

    Raises:
        InputError: the list of episodes is absent or damaged, contradicts itself or info.json, or
            leads out of the dataset.
    """
    path = _list_path(info)
    read = _read_v2 if info.has_file_per_episode else _read_v30
    episodes = sorted(read(info, path, video_keys), key=lambda episode: episode.index)
    for before, episode in pairwise(episodes):
        if before.index == episode.index:
            raise InputError(f"{path}: episode_index {episode.index} occurs twice; expected once")
    n_steps = sum(episode.length for episode in episodes)
    for name, found, expected in (
        ("total_episodes", len(episodes), info.total_episodes),
        ("total_frames", n_steps, info.total_frames),
    ):
        if expected is not None and found != expected:
            raise InputError(
                f"{path}: lists {len(episodes)} episodes with {n_steps} steps, but {name} in "
                f"{info.path} is {expected}: the recording is incomplete, or the files belong to "
                "two of them"
            )
    return tuple(episodes)


def check_listed(info: DatasetInfo, feature: Feature) -> None:
    """Check that the list of episodes says where the videos of a camera are.

    Version 2 has no need to: there the number of the episode says it.

    Raises:
        ColumnError: it does not.
    """
    if info.has_file_per_episode or feature.dtype != "video":
        return
    for path in _list_files(info)[:1]:
        with open_parquet(path) as file:
            check_column(file, path, f"videos/{feature.key}/file_index")


def _list_path(info: DatasetInfo) -> Path:
    return info.root / "meta" / ("episodes.jsonl" if info.has_file_per_episode else "episodes")


def _list_files(info: DatasetInfo) -> list[Path]:
    return sorted(file for file in _list_path(info).glob("*/*.parquet") if file.is_file())


def _read_v2(info: DatasetInfo, path: Path, video_keys: Sequence[str]) -> Iterator[Episode]:
    require_file(path, f"a dataset of version {info.version} lists its episodes there")
    for number, line in enumerate(_lines(path), start=1):
        index, length = _index_and_length(line, f"{path}: line {number}")
        fields = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        yield Episode(
            index=index,
            length=length,
            data=info.data_path.path(info.root, fields),
            first_row=0,
            file_rows=length,
            videos={
                key: VideoSpan(_video_path(info, key, fields), 0.0, float("inf"))
                for key in video_keys
            },
        )


def _index_and_length(line: bytes, source: str) -> tuple[int, int]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} is no JSON ({brief(error)}): download or copy the dataset again"
        ) from None
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    index, length = fields.get("episode_index"), fields.get("length")
    if type(index) is not int or type(length) is not int:
        raise InputError(
            f"{source}: expected an object with integers episode_index and length, found "
            f"{line[:100].decode(errors='replace').strip()}"
        )
    _check_range(source, index, length)
    return index, length


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_MAX_LINE_BYTES + 1):
            if len(line) > _MAX_LINE_BYTES:
                raise InputError(f"{path} has a line of more than {_MAX_LINE_BYTES} bytes")
            if line.strip():
                yield line


def _read_v30(info: DatasetInfo, path: Path, video_keys: Sequence[str]) -> Iterator[Episode]:
    files = _list_files(info)
    if not files:
        raise InputError(
            f"{path}: there is no chunk-000/file-000.parquet, but a dataset of version "
            f"{info.version} lists its episodes there; download or copy the dataset again"
        )
    found = [episode for file in files for episode in _read_v30_file(info, file, video_keys)]
    # The rows of a file are in the order of the whole dataset.
    found.sort(key=lambda episode: (episode.data, episode.first_row))
    for _, group in groupby(found, key=lambda episode: episode.data):
        members = list(group)
        file_rows, row = sum(episode.length for episode in members), 0
        for episode in members:
            yield replace(episode, first_row=row, file_rows=file_rows)
            row += episode.length


def _read_v30_file(info: DatasetInfo, path: Path, video_keys: Sequence[str]) -> Iterator[Episode]:
    """Yield episodes whose ``first_row`` is still that in the whole dataset."""
    names = ["episode_index", "length", "dataset_from_index", "dataset_to_index"]
    names += ["data/chunk_index", "data/file_index"]
    columns = dict.fromkeys(names, _INTEGER)
    for key in video_keys:
        columns |= {f"videos/{key}/{name}": _INTEGER for name in ("chunk_index", "file_index")}
        columns |= {f"videos/{key}/{name}_timestamp": _SECONDS for name in ("from", "to")}
    with open_parquet(path) as file:
        n_rows = file.metadata.num_rows
        if n_rows > MAX_STEPS:
            raise InputError(f"{path}: holds {n_rows} episodes; expected at most {MAX_STEPS}")
        table = read_columns(file, path, columns, n_rows)
    for row in range(n_rows):
        values = {name: array[row, 0].item() for name, array in table.items()}
        index, length = values["episode_index"], values["length"]
        source = f"{path}: episode {index}"
        _check_range(source, index, length)
        begin, end = values["dataset_from_index"], values["dataset_to_index"]
        if end - begin != length:
            raise InputError(
                f"{source} has length {length}, but dataset_from_index {begin} and "
                f"dataset_to_index {end}; expected length = to - from"
            )
        yield Episode(
            index=index,
            length=length,
            data=info.data_path.path(info.root, _place(values, "data", source)),
            first_row=begin,
            file_rows=length,
            videos={key: _video_span(info, key, values, source) for key in video_keys},
        )


def _video_span(
    info: DatasetInfo, key: str, values: Mapping[str, int | float], source: str
) -> VideoSpan:
    name = f"videos/{key}"
    start, end = (float(values[f"{name}/{which}_timestamp"]) for which in ("from", "to"))
    if not 0 <= start < end < float("inf"):
        raise InputError(
            f"{source}: {name}/from_timestamp is {start:g} and to_timestamp {end:g}; expected "
            "0 <= from < to"
        )
    return VideoSpan(_video_path(info, key, _place(values, name, source)), start, end)


def _place(values: Mapping[str, int | float], prefix: str, source: str) -> dict[str, int]:
    place = {name: int(values[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}
    for name, value in place.items():
        if value < 0:
            raise InputError(f"{source}: {prefix}/{name} is {value}; expected at least 0")
    return place


def _video_path(info: DatasetInfo, key: str, fields: Mapping[str, int]) -> Path:
    assert info.video_path is not None
    return info.video_path.path(info.root, {**fields, "video_key": key})


def _check_range(source: str, index: int, length: int) -> None:
    if not 0 <= index < 2**31:
        raise InputError(f"{source}: episode_index is {index}; expected 0, 1, 2, ...")
    if not 1 <= length <= MAX_STEPS:
        raise InputError(f"{source}: length is {length}; expected 1 to {MAX_STEPS} steps")
