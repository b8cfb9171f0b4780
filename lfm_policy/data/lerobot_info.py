"""``meta/info.json`` of a LeRobot dataset: version, rate, features and where the files are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfm_policy.data.lerobot_files import PathTemplate, brief, similar_names
from lfm_policy.errors import InputError
from lfm_policy.files import is_file

V21, V30 = "v2.1", "v3.0"
MAX_STEPS = 10**8
"""Most steps that are read, and most episodes: what JSON promises is not allocated."""

NUMERIC = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""The dtypes of features that are read as numbers."""

_MAX_JSON_BYTES = 16 * 2**20
_MAX_VALUES = 2**20
_MAX_SIDE = 8192
_FIELDS = {V21: ("episode_chunk", "episode_index"), V30: ("chunk_index", "file_index")}


@dataclass(frozen=True)
class Feature:
    """What info.json says of one feature.

    Attributes:
        key: its name.
        dtype: ``"video"``, ``"image"`` or the name of a numeric numpy dtype.
        shape: of one step; of a camera (height, width, channels), however info.json orders it.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]

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
        version: ``"v2.1"`` or ``"v3.0"``.
        fps: steps per second, positive and finite.
        total_episodes: number of episodes it announces.
        total_frames: number of steps it announces.
        chunks_size: episodes per chunk folder (v2.1).
        data_path: template of the parquet files.
        video_path: template of the videos; None where there are none.
        features: feature -> what is said of it, unchecked; see :meth:`feature`.
    """

    root: Path
    version: str
    fps: float
    total_episodes: int
    total_frames: int
    chunks_size: int
    data_path: PathTemplate
    video_path: PathTemplate | None
    features: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.root / "meta" / "info.json"

    def feature(self, key: str) -> Feature:
        """Return a feature that can be read.

        Raises:
            InputError: there is no such feature, or its dtype or shape is not what it has to be.
        """
        if key not in self.features:
            raise InputError(
                f"{self.path}: there is no feature '{key}': "
                + similar_names(key, tuple(self.features))
            )
        entry, source = self.features[key], f"{self.path}: feature '{key}'"
        if not isinstance(entry, dict):
            raise InputError(
                f"{source} is {_found(entry)}; expected an object with dtype and shape"
            )
        dtype, shape = entry.get("dtype"), _shape(entry.get("shape"), source)
        if dtype in ("video", "image"):
            _check_no_depth(entry, source)
            return Feature(key, dtype, _frame_shape(shape, source, has_alpha=dtype == "image"))
        if dtype not in NUMERIC:
            raise InputError(
                f"{source} has dtype {_found(dtype)}; expected a numeric one such as float32, or "
                "video or image: name the features to be observed in obs_keys, without this one"
            )
        if math.prod(shape) > _MAX_VALUES:
            raise InputError(
                f"{source} has shape {list(shape)}, {math.prod(shape)} values per step; expected "
                f"at most {_MAX_VALUES}"
            )
        return Feature(key, dtype, shape)


def read_info(root: Path) -> DatasetInfo:
    """Read and check ``meta/info.json``.

    Raises:
        InputError: it is absent, no JSON, of another version, or an entry is not what it has to
            be.
    """
    path = root / "meta" / "info.json"
    if not is_file(path):
        raise InputError(
            f"{root}: there is no meta/info.json, so this is no LeRobot dataset of version {V21} "
            f"or {V30}: set dataset.path to the folder that holds meta/, data/ and videos/"
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
        raise InputError(f"{path} holds {_found(raw)}; expected an object")
    version = _version(raw.get("codebase_version"), path)
    features = raw.get("features")
    if not isinstance(features, dict) or not features:
        raise InputError(f"{path}: features is {_found(features)}; expected an object of features")
    return DatasetInfo(
        root=root,
        version=version,
        fps=_fps(raw.get("fps"), path),
        total_episodes=_integer(raw, "total_episodes", path),
        total_frames=_integer(raw, "total_frames", path),
        chunks_size=_integer({"chunks_size": 1000} | raw, "chunks_size", path),
        data_path=_template(raw.get("data_path"), "data_path", _FIELDS[version], path),
        video_path=None
        if raw.get("video_path") is None
        else _template(raw["video_path"], "video_path", (*_FIELDS[version], "video_key"), path),
        features=features,
    )


def _version(found: Any, path: Path) -> str:
    text = found if isinstance(found, str) else ""
    match = re.fullmatch(r"v?([0-9]{1,3})\.([0-9]{1,3})(?:\.[0-9]{1,3})?", text)
    if match is None:
        raise InputError(
            f"{path}: codebase_version is {_found(found)}; expected '{V21}' or '{V30}', which are "
            "read here"
        )
    version = f"v{int(match[1])}.{int(match[2])}"
    if version in (V21, V30):
        return version
    if (int(match[1]), int(match[2])) < (2, 1):
        advice = (
            "convert the dataset with LeRobot's convert_dataset_v20_to_v21.py (one of version 1 "
            "with convert_dataset_v1_to_v2.py before)"
        )
    else:
        advice = "update this package, or convert the dataset with LeRobot's scripts"
    raise InputError(
        f"{path}: codebase_version is '{text}', but {V21} and {V30} are read here: {advice}, "
        "or choose another revision of it by dataset.revision where the hub has one"
    )


def _fps(found: Any, path: Path) -> float:
    # A comparison, not math.isfinite: a long integer does not even become a float.
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 1e-3 <= found <= 1e5:
        raise InputError(
            f"{path}: fps is {_found(found)}; expected a number of steps per second such as 30"
        )
    return float(found)


def _integer(raw: Mapping[str, Any], key: str, path: Path) -> int:
    found = raw.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise InputError(f"{path}: {key} is {_found(found)}; expected an integer of at least 1")
    return found


def _template(found: Any, key: str, fields: tuple[str, ...], path: Path) -> PathTemplate:
    if not isinstance(found, str) or len(found) > 1000:
        raise InputError(
            f"{path}: {key} is {_found(found)}; expected a path with fields such as "
            + " and ".join(f"{{{name}}}" for name in fields)
        )
    return PathTemplate(found, f"{path}: {key}", fields)


def _shape(found: Any, source: str) -> tuple[int, ...]:
    sizes = found if isinstance(found, list) and 1 <= len(found) <= 8 else [None]
    # Bounded before anything is multiplied with it.
    if any(
        isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _MAX_VALUES
        for size in sizes
    ):
        raise InputError(
            f"{source} has shape {_found(found)}; expected a list of sizes such as [7] or "
            "[480, 640, 3]"
        )
    return tuple(sizes)


def _frame_shape(shape: tuple[int, ...], source: str, *, has_alpha: bool) -> tuple[int, int, int]:
    channels = (1, 3, 4) if has_alpha else (1, 3)
    # Datasets disagree on the order, and on `names` even more: the smallest side is the channels.
    if len(shape) == 3 and shape[2] not in channels:
        shape = (shape[1], shape[2], shape[0])
    if len(shape) != 3 or shape[2] not in channels or max(shape) > _MAX_SIDE:
        raise InputError(
            f"{source} has shape {list(shape)}; expected images [height, width, channels] of at "
            f"most {_MAX_SIDE} pixels a side and {' or '.join(map(str, channels))} channels"
        )
    height, width, n_channels = shape
    return height, width, n_channels


def _check_no_depth(entry: Mapping[str, Any], source: str) -> None:
    for name in ("info", "video_info"):
        details = entry.get(name)
        if isinstance(details, dict) and any(
            details.get(key) is True for key in ("is_depth_map", "video.is_depth_map")
        ):
            raise InputError(
                f"{source} is a depth map; expected a camera of 8 bits per channel: name the "
                "features to be observed in obs_keys, without this one"
            )


def _found(value: Any) -> str:
    # Not the repr of everything: it may be as deep and as long as the file allows.
    if value is None:
        return "missing"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list):
        simple = len(value) <= 10 and not any(isinstance(item, (dict, list)) for item in value)
        return str(value)[:100] if simple else f"a list of {len(value)} elements"
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."
