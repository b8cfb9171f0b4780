"""``meta/info.json`` of a LeRobot dataset: version, rate, features and where the files are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.data.images.depth import as_depth_advice, looks_like_depth
from lfm_policy.data.lerobot.files import INFO, V1_INFO, PathTemplate, similar_names
from lfm_policy.errors import InputError, brief, shown
from lfm_runtime.disk.files import is_file
from lfm_runtime.policy.spec import is_image

NUMERIC = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""The dtypes of features that are read as numbers."""

_MAX_VALUES = 2**20
_MAX_SIDE = 8192

WITHOUT_IT = "name the features to be observed in obs_keys, without this one"

V20, V21, V30 = "v2.0", "v2.1", "v3.0"
READ_VERSIONS = f"'{V20}', '{V21}' or '{V30}'"

MAX_STEPS = 10**8
"""Most steps that are read, and most episodes: what JSON promises is not allocated."""

_MAX_JSON_BYTES = 16 * 2**20
_CHUNKS_SIZE = 1000
_V1_ADVICE = (
    "convert it with LeRobot's convert_dataset_v1_to_v2.py, which LeRobot's releases up to 0.3 have"
)


@dataclass(frozen=True)
class Layout:
    """Where a version has its files: the fields of paths, and the paths that LeRobot takes."""

    fields: tuple[str, ...]
    data_path: str
    video_path: str


_BY_EPISODE = Layout(
    ("episode_chunk", "episode_index"),
    "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
)
BY_FILE = Layout(
    ("chunk_index", "file_index"),
    "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
)
_LAYOUTS = {V20: _BY_EPISODE, V21: _BY_EPISODE, V30: BY_FILE}


class UnusableFeature(InputError):
    """A feature is nothing that a policy could observe, or nothing that can be read here.

    It is so by what it is, in whole files: text, a depth map, a video of an unknown codec. Where a
    feature is damaged at some place the error is another one, because it should be repaired.

    Attributes:
        fact: what was found and expected; the message also says what to do.
    """

    def __init__(self, fact: str) -> None:
        super().__init__(f"{fact}: {WITHOUT_IT}")
        self.fact = fact


@dataclass(frozen=True)
class Feature:
    """What info.json says of one feature.

    Attributes:
        key: its name.
        dtype: ``"video"``, ``"image"`` or the name of a numeric numpy dtype.
        shape: of one step; of a camera (height, width, channels), however info.json orders it.
        codec: of a video, as info.json calls it; empty where it does not.
        is_depth: whether it is read as depth: pictures of 16 bits, or numbers.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    codec: str = ""
    is_depth: bool = False

    @property
    def is_camera(self) -> bool:
        """Whether it is stored as pictures, in a video or one by one."""
        return self.dtype in ("video", "image")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a camera."""
        height, width, channels = self.shape
        return height, width, channels


@dataclass(frozen=True)
class DatasetInfo:
    """The checked contents of info.json.

    Attributes:
        root: folder of the dataset.
        version: ``"v2.0"``, ``"v2.1"`` or ``"v3.0"``.
        fps: steps per second, positive and finite.
        total_episodes: number of episodes it announces; None where it does not.
        total_frames: number of steps it announces; None where it does not.
        chunks_size: episodes per chunk folder (v2).
        data_path: template of the parquet files.
        video_path: template of the videos; None where there are none.
        features: feature -> what is said of it, unchecked; see :meth:`feature`.
        assumed: name of an absent entry -> what is taken in its place, in words.
        robot_type: kind of the robot; empty where that is not said.
    """

    root: Path
    version: str
    fps: float
    total_episodes: int | None
    total_frames: int | None
    chunks_size: int
    data_path: PathTemplate
    video_path: PathTemplate | None
    features: Mapping[str, Any]
    assumed: Mapping[str, str] = field(default_factory=dict)
    robot_type: str = ""

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.root / INFO

    @property
    def has_file_per_episode(self) -> bool:
        """Whether every episode has its own parquet file and videos, as in version 2."""
        return _LAYOUTS[self.version] is _BY_EPISODE

    def meanings(self) -> dict[str, Any]:
        """Return what the numbers of features are: their ``names``, one for each number."""
        found = {}
        for key, entry in self.features.items():
            said = entry.get("names") if isinstance(entry, dict) else None
            # Either [...] or {"motors": [...]}.
            names = next(iter(said.values()), None) if isinstance(said, dict) else said
            if isinstance(names, list) and entry.get("shape") == [len(names)]:
                found[key] = said
        return found

    def feature(self, key: str, *, is_depth: bool = False) -> Feature:
        """Return a feature that can be read.

        Args:
            key: its name.
            is_depth: whether it is to be read as depth.

        Raises:
            InputError: there is no such feature.
            UnusableFeature: its dtype or shape is none that can be observed, or it is a video and
                there are no videos.
        """
        if key not in self.features:
            raise InputError(
                f"{self.path}: there is no feature '{key}': "
                + similar_names(key, tuple(self.features))
            )
        source = f"{self.path}: feature '{key}'"
        feature = _read_feature(key, self.features[key], source, is_depth=is_depth)
        if feature.dtype == "video" and self.video_path is None:
            raise UnusableFeature(
                f"{self.path}: video_path is missing, but feature '{key}' has dtype video; "
                "expected a path with {video_key}"
            )
        return feature


def default_name(key: str) -> str:
    """Return what the policy calls a feature when nobody renames it.

    ``observation.images.top`` becomes ``top``, ``observation.state`` ``state``; a feature that is
    no observation keeps its name.
    """
    for prefix in ("observation.images.", "observation."):
        if key.startswith(prefix) and len(key) > len(prefix):
            return key[len(prefix) :]
    return key


def read_info(root: Path) -> DatasetInfo:
    """Read and check ``meta/info.json``.

    Raises:
        InputError: it is absent, no JSON, of another version, or an entry is not what it has to
            be.
    """
    path = root / INFO
    if not is_file(path):
        if is_file(root / V1_INFO):
            raise InputError(
                f"{root / V1_INFO}: this is a LeRobot dataset of version 1, but "
                f"{READ_VERSIONS} are read here: {_V1_ADVICE}"
            )
        raise InputError(
            f"{root}: there is no meta/info.json, so this is no LeRobot dataset of version "
            f"{READ_VERSIONS}: set dataset.path to the folder that holds meta/, data/ and videos/"
        )
    size = path.stat().st_size
    if size > _MAX_JSON_BYTES:
        raise InputError(f"{path} has {size} bytes; expected at most {_MAX_JSON_BYTES}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    # ValueError: no JSON, no UTF-8, or an integer of thousands of digits.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON ({brief(error)}): download or copy the dataset again"
        ) from None
    if not isinstance(raw, dict):
        raise InputError(f"{path} holds {shown(raw)}; expected an object")
    version = _version(raw.get("codebase_version"), path)
    layout = _LAYOUTS[version]
    features = raw.get("features")
    if not isinstance(features, dict) or not features:
        raise InputError(f"{path}: features is {shown(features)}; expected an object of features")
    assumed = _assumed(raw, layout, features)
    raw = {"data_path": layout.data_path, "video_path": layout.video_path} | raw
    return DatasetInfo(
        root=root,
        version=version,
        fps=_fps(raw.get("fps"), path),
        total_episodes=_integer(raw, "total_episodes", path),
        total_frames=_integer(raw, "total_frames", path),
        chunks_size=_integer(raw, "chunks_size", path) or _CHUNKS_SIZE,
        data_path=_template(raw["data_path"], "data_path", layout.fields, path),
        video_path=None
        if raw["video_path"] is None
        else _template(raw["video_path"], "video_path", (*layout.fields, "video_key"), path),
        features=features,
        assumed=assumed,
        robot_type=robot if isinstance(robot := raw.get("robot_type"), str) else "",
    )


def _assumed(raw: Mapping[str, Any], layout: Layout, features: Mapping[str, Any]) -> dict[str, str]:
    """Return what is taken for entries that are not there, as LeRobot itself writes them."""
    paths = {"data_path": layout.data_path}
    if any(
        isinstance(entry, dict) and entry.get("dtype") == "video" for entry in features.values()
    ):
        paths["video_path"] = layout.video_path
    assumed = {
        name: f"the files are looked for under LeRobot's own {path}"
        for name, path in paths.items()
        if name not in raw
    }
    if raw.get("chunks_size") is None and layout is _BY_EPISODE:
        assumed["chunks_size"] = f"a folder holds {_CHUNKS_SIZE} episodes"
    for name in ("total_episodes", "total_frames"):
        if raw.get(name) is None:
            assumed[name] = "the list of episodes under meta/ is complete"
    return assumed


def _version(found: Any, path: Path) -> str:
    text = found if isinstance(found, str) else ""
    match = re.fullmatch(r"v?([0-9]{1,3})\.([0-9]{1,3})(?:\.[0-9]{1,3})?", text)
    if match is None:
        raise InputError(
            f"{path}: codebase_version is {shown(found)}; expected {READ_VERSIONS}, which are "
            "read here"
        )
    version = f"v{int(match[1])}.{int(match[2])}"
    if version in _LAYOUTS:
        return version
    advice = (
        _V1_ADVICE
        if int(match[1]) < 2
        else "update this package, or convert the dataset with LeRobot's scripts"
    )
    raise InputError(
        f"{path}: codebase_version is '{text}', but {READ_VERSIONS} are read here: {advice}, "
        "or choose another revision of it by dataset.revision where the hub has one"
    )


def _fps(found: Any, path: Path) -> float:
    # A comparison, not math.isfinite: a long integer does not even become a float.
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 1e-3 <= found <= 1e5:
        raise InputError(
            f"{path}: fps is {shown(found)}; expected a number of steps per second such as 30"
        )
    return float(found)


def _integer(raw: Mapping[str, Any], key: str, path: Path) -> int | None:
    found = raw.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise InputError(f"{path}: {key} is {shown(found)}; expected an integer of at least 1")
    return found


def _template(found: Any, key: str, fields: tuple[str, ...], path: Path) -> PathTemplate:
    if not isinstance(found, str) or len(found) > 1000:
        raise InputError(
            f"{path}: {key} is {shown(found)}; expected a path with fields such as "
            + " and ".join(f"{{{name}}}" for name in fields)
        )
    return PathTemplate(found, f"{path}: {key}", fields)


def _read_feature(key: str, entry: Any, source: str, *, is_depth: bool) -> Feature:
    if not isinstance(entry, dict):
        raise UnusableFeature(
            f"{source} is {shown(entry)}; expected an object with dtype and shape"
        )
    dtype = entry.get("dtype")
    if dtype not in (*NUMERIC, "video", "image"):
        raise UnusableFeature(
            f"{source} has dtype {shown(dtype)}; expected a numeric one such as float32, or "
            "video or image"
        )
    shape = _shape(entry.get("shape"), source)
    if is_depth:
        if dtype == "video":
            raise UnusableFeature(
                f"{source} is a video, of which no depth is read; expected pictures of 16 bits "
                "(dtype image, PNG) or numbers, or data in zarr"
            )
        if dtype == "image":
            shape = _frame_shape(shape, source, channels=(1,))
        return Feature(key, dtype, shape, is_depth=True)
    if dtype in ("video", "image"):
        # What is said of a camera beyond its shape, where any version says it.
        said = (entry, entry.get("info"), entry.get("video_info"))
        details = [part for part in said if isinstance(part, dict)]
        if any(d.get(k) is True for d in details for k in ("is_depth_map", "video.is_depth_map")):
            raise UnusableFeature(
                f"{source} is a depth map; expected a camera of 8 bits per channel"
                + ("" if dtype == "video" else f"; {as_depth_advice(key)}")
            )
        codecs = [codec for d in details if isinstance(codec := d.get("video.codec"), str)]
        channels = (1, 3, 4) if dtype == "image" else (1, 3)
        frame_shape = _frame_shape(shape, source, channels=channels)
        return Feature(key, dtype, frame_shape, codecs[0][:50] if codecs else "")
    if math.prod(shape) > _MAX_VALUES:
        raise UnusableFeature(
            f"{source} has shape {list(shape)}, {math.prod(shape)} values per step; expected "
            f"at most {_MAX_VALUES}"
        )
    if looks_like_depth(shape, np.dtype(dtype)):
        raise UnusableFeature(
            f"{source} has {dtype} {list(shape)} per step, as depth images have; "
            + as_depth_advice(key)
        )
    if is_image(shape) and dtype != "uint8":
        raise UnusableFeature(f"{source} has {dtype} {list(shape)} per step; images are uint8")
    return Feature(key, dtype, shape)


def _shape(found: Any, source: str) -> tuple[int, ...]:
    sizes = found if isinstance(found, list) and 1 <= len(found) <= 8 else [None]
    # Bounded before anything is multiplied with it.
    if any(
        isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _MAX_VALUES
        for size in sizes
    ):
        raise UnusableFeature(
            f"{source} has shape {shown(found)}; expected a list of sizes such as [7] or "
            "[480, 640, 3]"
        )
    return tuple(sizes)


def _frame_shape(
    shape: tuple[int, ...], source: str, *, channels: tuple[int, ...]
) -> tuple[int, int, int]:
    frame = (*shape, 1) if len(shape) == 2 else shape  # grey
    # Datasets disagree on the order, and on `names` even more: the smallest side is the channels.
    if len(frame) == 3 and frame[2] not in channels:
        frame = (frame[1], frame[2], frame[0])
    if len(frame) != 3 or frame[2] not in channels or max(frame) > _MAX_SIDE:
        raise UnusableFeature(
            f"{source} has shape {list(shape)}; expected images [height, width, channels] of at "
            f"most {_MAX_SIDE} pixels a side and {' or '.join(map(str, channels))} channels"
        )
    return frame[0], frame[1], frame[2]
