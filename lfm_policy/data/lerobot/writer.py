"""Write LeRobot datasets, version 3.0: parquet for numbers, videos for images, and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from einops import rearrange
from tqdm.auto import tqdm

from lfm_policy.data.images.cache import release
from lfm_policy.data.images.video_writer import DEFAULT_CRF, ImageLoss, VideoWriter, measure_loss
from lfm_policy.data.lerobot.info import BY_FILE, default_name
from lfm_policy.data.lerobot.tables import arrow_type, to_arrow, write_tasks
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, is_image
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import atomic_folder, require_absent, write_json

_EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_FILES_PER_CHUNK = 1000

_VIDEO_SECONDS = 1000.0
"""A video goes on in another file after so long. LeRobot looks frames up by times in float32, which
beyond 1024 s are further apart than the 0.1 ms that it allows."""

_PART_BYTES = 32 * 2**20

_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Stats = dict[str, np.ndarray]
"""``min``, ``max``, ``mean``, ``std``, ``q01`` to ``q99`` and ``count``."""


def feature_name(key: str, shape: tuple[int, ...]) -> str:
    """Return what LeRobot calls an array; the reader's default names are the inverse.

    Args:
        key: its name in a buffer, or already that of LeRobot.
        shape: of one step.
    """
    if key == ACTION_KEY:
        return key
    name = default_name(key)
    images = "images." if is_image(shape) and name != "image" else ""
    return f"observation.{images}{name}"


def write_lerobot(
    path: str | Path,
    buffer: ReplayBuffer,
    *,
    fps: float,
    task: str = "demonstration",
    tasks: Sequence[str] = (),
    robot_type: str = "",
    meanings: Mapping[str, Any] | None = None,
    crf: int = DEFAULT_CRF,
    quiet: bool = True,
) -> None:
    """Write a buffer as a LeRobot dataset.

    Low-dimensional values and their dtypes stay as they are. Images are encoded as H.264 (MPEG-4
    where PyAV lacks its encoder), which changes them: see :func:`measure_video_loss`. The folder
    appears under its name only when it is complete; images are read part by part.

    Args:
        path: of the folder.
        buffer: what to write, its action under ``"action"``; it is validated first.
        fps: steps per second.
        task: what the demonstrations show, in words.
        tasks: what each of them shows, where it is not the same.
        robot_type: kind of the robot, where that is known.
        meanings: array -> what its numbers are, as LeRobot's ``names`` say it.
        crf: quality of H.264, 0 (best) to 51.
        quiet: no progress bars.

    Raises:
        InputError: the buffer or another argument is not valid or cannot be written in this format,
            or ``path`` exists already.
    """
    buffer.validate()
    require_absent(path := Path(path))
    if not (isinstance(fps, int | float) and 1e-3 <= fps <= 1e5):
        raise InputError(f"fps is {fps}; expected a number of steps per second such as 30")
    if not 0 <= crf <= 51:
        raise InputError(f"crf is {crf}; expected 0 (best) to 51")
    shown = list(tasks) or [task] * buffer.n_episodes
    if not all(shown):
        raise InputError("task is empty; expected what the demonstrations show, in words")
    dataset = _Dataset(buffer, fps, shown, quiet)
    dataset.describe(robot_type, meanings or {})
    with atomic_folder(path) as folder:
        features = list(dataset.write_numbers(folder))
        features += [dataset.write_camera(folder, name, crf) for name in dataset.images]
        dataset.write_metadata(folder, features)


def measure_video_loss(path: str | Path, buffer: ReplayBuffer) -> dict[str, ImageLoss]:
    """Decode the videos of a dataset and compare them with the buffer it was written from.

    Returns:
        What was lost by key of the buffer, for every camera.
    """
    losses = {}
    for key, array in buffer.arrays.items():
        if is_image(array.shape[1:]):
            folder = Path(path) / "videos" / feature_name(key, array.shape[1:])
            losses[key] = measure_loss(sorted(folder.glob("*/*.mp4")), array)
            release(array)
    return losses


@dataclass(frozen=True)
class _Feature:
    """One feature, written: its entry in info.json, its columns in the list of episodes."""

    name: str
    entry: dict[str, Any]
    episodes: list[Stats]
    overall: Stats
    columns: dict[str, Any]


class _Dataset:
    """Writes the parts of one dataset into a folder."""

    def __init__(self, buffer: ReplayBuffer, fps: float, shown: list[str], quiet: bool) -> None:
        self._buffer, self._shown, self._quiet = buffer, shown, quiet
        self._fps = int(fps) if fps == int(fps) else fps  # as LeRobot has it
        self._tasks, self._task_index = buffer.numbered(shown)
        starts, ends = buffer.episode_starts.tolist(), buffer.episode_ends.tolist()
        self._spans = list(zip(starts, ends, strict=True))
        self._names = _names(buffer)
        arrays = {self._names[key]: array for key, array in buffer.arrays.items()}
        self.images = {name: array for name, array in arrays.items() if is_image(array.shape[1:])}
        self._numbers = {
            name: array.astype(array.dtype.newbyteorder("="), copy=False)
            for name, array in arrays.items()
            if name not in self.images
        } | self._bookkeeping()

    def describe(self, robot_type: str, meanings: Mapping[str, Any]) -> None:
        """Say what the robot is, and what the numbers of arrays are."""
        self._robot_type = robot_type or None
        self._said = {self._names[k]: said for k, said in meanings.items() if k in self._names}

    def _bookkeeping(self) -> dict[str, np.ndarray]:
        """Return the columns that LeRobot has in every dataset, (T, 1) each."""
        lengths = self._buffer.episode_lengths
        index = np.arange(self._buffer.n_steps)
        frame_index = index - np.repeat(self._buffer.episode_starts, lengths)
        columns = {
            "timestamp": (frame_index / self._fps).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.repeat(np.arange(len(lengths)), lengths),
            "index": index,
            "task_index": self._task_index,
        }
        return {name: column[:, None] for name, column in columns.items()}

    def write_numbers(self, folder: Path) -> Iterator[_Feature]:
        """Write the parquet file and yield what is in it."""
        path = folder / BY_FILE.data_path.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        schema = pa.schema([(name, arrow_type(array)) for name, array in self._numbers.items()])
        with pq.ParquetWriter(path, schema, compression="snappy") as writer:
            # One row group per episode, so that one can be read without the others.
            for begin, end in self._spans:
                columns = [to_arrow(array[begin:end]) for array in self._numbers.values()]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        for name, array in self._numbers.items():
            shape, said = list(array.shape[1:]), self._said.get(name)
            yield _Feature(
                name=name,
                entry={"dtype": array.dtype.name, "shape": shape, "names": said},
                episodes=[array_stats(array[begin:end]) for begin, end in self._spans],
                overall=array_stats(array),
                columns={},
            )

    def write_camera(self, folder: Path, name: str, crf: int) -> _Feature:
        """Write the videos of a camera and return what they show."""
        images = self.images[name]
        height, width, channels = images.shape[1:]
        place = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        columns: dict[str, list[float]] = {f"videos/{name}/{column}": [] for column in place}
        histograms = []
        bar = tqdm(total=len(images), desc=f"video of {name}", unit="frame", disable=self._quiet)
        for number, spans in enumerate(self._video_files()):
            chunk, file = divmod(number, _FILES_PER_CHUNK)
            path = folder / BY_FILE.video_path.format(
                video_key=name, chunk_index=chunk, file_index=file
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            with VideoWriter(path, height=height, width=width, fps=self._fps, crf=crf) as video:
                for begin, end in spans:
                    histograms.append(_encode(video, images, begin, end, bar))
                    times = ((step - spans[0][0]) / self._fps for step in (begin, end))
                    for column, value in zip(columns.values(), (chunk, file, *times), strict=True):
                        column.append(value)
        bar.close()
        details = {
            "video.height": height,
            "video.width": width,
            "video.codec": video.codec,
            "video.pix_fmt": video.pixel_format,
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "video.channels": channels,
            "has_audio": False,
        }
        return _Feature(
            name=name,
            entry={
                "dtype": "video",
                "shape": [height, width, channels],
                "names": ["height", "width", "channels"],
                "info": details,
            },
            episodes=[
                image_stats(histogram, end - begin)
                for histogram, (begin, end) in zip(histograms, self._spans, strict=True)
            ],
            overall=image_stats(np.sum(histograms, axis=0), len(images)),
            columns=columns,
        )

    def _video_files(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the spans of the episodes of one video after the other."""
        spans: list[tuple[int, int]] = []
        for begin, end in self._spans:
            if spans and (end - spans[0][0]) / self._fps > _VIDEO_SECONDS:
                yield spans
                spans = []
            spans.append((begin, end))
        yield spans

    def write_metadata(self, folder: Path, features: list[_Feature]) -> None:
        """Write all files below ``meta``; ``features`` are what was written before."""
        n_episodes, n_steps = self._buffer.n_episodes, self._buffer.n_steps
        meta = folder / "meta"
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._robot_type,
            "total_episodes": n_episodes,
            "total_frames": n_steps,
            "total_tasks": len(self._tasks),
            "chunks_size": _FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._fps,
            "splits": {"train": f"0:{n_episodes}"},
            "data_path": BY_FILE.data_path,
            "video_path": BY_FILE.video_path if self.images else None,
            "features": {feature.name: feature.entry for feature in features},
        }
        write_json(meta / "info.json", info)
        overall = {f.name: {k: v.tolist() for k, v in f.overall.items()} for f in features}
        write_json(meta / "stats.json", overall)
        write_tasks(meta / "tasks.parquet", self._tasks)

        zeros = [0] * n_episodes
        columns: dict[str, list[Any]] = {
            "episode_index": list(range(n_episodes)),
            "tasks": [[task] for task in self._shown],
            "length": [end - begin for begin, end in self._spans],
            "data/chunk_index": zeros,
            "data/file_index": zeros,
            "dataset_from_index": [begin for begin, _ in self._spans],
            "dataset_to_index": [end for _, end in self._spans],
        }
        for feature in features:
            columns |= feature.columns
            for name in feature.overall:
                values = [stats[name].tolist() for stats in feature.episodes]
                columns[f"stats/{feature.name}/{name}"] = values
        columns |= {"meta/episodes/chunk_index": zeros, "meta/episodes/file_index": zeros}
        path = folder / _EPISODES_PATH
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), path, compression="snappy")


def _names(buffer: ReplayBuffer) -> dict[str, str]:
    """Return feature by key of the buffer, having checked that the format can hold it."""
    source = buffer.source
    if ACTION_KEY not in buffer.arrays:
        raise InputError(f"{source}: there is no array '{ACTION_KEY}' to write")
    names: dict[str, str] = {}
    for key, array in buffer.arrays.items():
        shape = array.shape[1:]
        name = feature_name(key, shape)
        if not key or any(c in key for c in "/\\\0") or default_name(name) != default_name(key):
            raise InputError(
                f"{source}: '{key}' cannot be the name of a LeRobot feature, here '{name}': rename "
                "it, without slashes and without 'images.' in front"
            )
        if name in names.values():
            raise InputError(
                f"{source}: '{key}' and another array would both become the feature '{name}'; "
                "rename one of them"
            )
        names[key] = name
        if is_image(shape):
            if shape[2] != 3:
                raise InputError(
                    f"{source}: images {key} have {shape[2]} channels; LeRobot's videos have 3: "
                    "leave them out, or write .zarr or .hdf5"
                )
        elif array.dtype.itemsize > 8 or len(shape) > 5:
            raise InputError(
                f"{source}: {key} is {array.dtype} {shape} per step; LeRobot's features have at "
                "most 64 bits and 5 dimensions"
            )
    return names


def _encode(
    video: VideoWriter, images: np.ndarray, begin: int, end: int, bar: tqdm[Any]
) -> np.ndarray:
    """Append the images of one episode, part by part; returns their histogram."""
    histogram = np.zeros((images.shape[3], 256), np.int64)
    rows = max(1, _PART_BYTES // images[0].nbytes)
    for first in range(begin, end, rows):
        part = images[first : min(first + rows, end)]
        video.write(part)
        histogram += image_histogram(part)
        bar.update(len(part))
    release(images)
    return histogram


def array_stats(values: np.ndarray) -> Stats:
    """Return the statistics of low-dimensional values.

    Args:
        values: (T, ...) numbers.

    Returns:
        Arrays of the shape of one step, (1,) for a scalar; ``count`` is T, shape (1,). ``min`` and
        ``max`` of integers stay integers, all else is float64.
    """
    values = values.reshape(len(values), *(values.shape[1:] or (1,)))
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    # float64, because sums of many float16 or float32 lose digits.
    numbers = values.astype(np.float64)
    quantiles = np.quantile(numbers, list(_QUANTILES.values()), axis=0)
    extremes = values if values.dtype.kind in "iu" else numbers
    return {
        "min": extremes.min(axis=0),
        "max": extremes.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


def image_histogram(images: np.ndarray) -> np.ndarray:
    """Return how often each grey level occurs: uint8 (T, H, W, C) -> (C, 256) int64.

    Histograms of parts add up to that of the whole, and give exact statistics.
    """
    channels = rearrange(images, "t h w c -> c (t h w)")
    return np.stack([np.bincount(values, minlength=256) for values in channels])


def image_stats(histogram: np.ndarray, n_frames: int) -> Stats:
    """Return the statistics of images from their histogram.

    Args:
        histogram: (C, 256), see `image_histogram`.
        n_frames: number of images in it.

    Returns:
        Arrays (C, 1, 1), in shares of 255 as LeRobot loads images; ``count`` has shape (1,).
    """
    levels = np.arange(256) / 255
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ levels
    variance = (share * (levels - mean[:, None]) ** 2).sum(axis=1)
    below = share.cumsum(axis=1)
    present = histogram > 0
    stats = {
        "min": levels[present.argmax(axis=1)],
        "max": levels[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(variance),
        # 1e-12: a cumulated share of exactly q may be rounded to just below it.
        **{name: levels[(below >= q - 1e-12).argmax(axis=1)] for name, q in _QUANTILES.items()},
    }
    return {
        **{name: rearrange(value, "c -> c 1 1") for name, value in stats.items()},
        "count": np.array([n_frames]),
    }
