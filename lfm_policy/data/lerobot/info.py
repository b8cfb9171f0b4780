"""``meta/info.json`` of a LeRobot dataset: version, rate, features and where the files are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lfm_policy.data.lerobot.feature import Feature, UnusableFeature, read_feature, shown
from lfm_policy.data.lerobot.files import V1_INFO, PathTemplate, brief, similar_names
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import is_file

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
class _Layout:
    """Where a version has its files: the fields of paths, and the paths that LeRobot takes."""

    fields: tuple[str, ...]
    data_path: str
    video_path: str


_BY_EPISODE = _Layout(
    ("episode_chunk", "episode_index"),
    "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
)
_BY_FILE = _Layout(
    ("chunk_index", "file_index"),
    "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
)
_LAYOUTS = {V20: _BY_EPISODE, V21: _BY_EPISODE, V30: _BY_FILE}


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

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.root / "meta" / "info.json"

    @property
    def has_file_per_episode(self) -> bool:
        """Whether every episode has its own parquet file and videos, as in version 2."""
        return _LAYOUTS[self.version] is _BY_EPISODE

    def feature(self, key: str) -> Feature:
        """Return a feature that can be read.

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
        feature = read_feature(key, self.features[key], f"{self.path}: feature '{key}'")
        if feature.dtype == "video" and self.video_path is None:
            raise UnusableFeature(
                f"{self.path}: video_path is missing, but feature '{key}' has dtype video; "
                "expected a path with {video_key}"
            )
        return feature


def read_info(root: Path) -> DatasetInfo:
    """Read and check ``meta/info.json``.

    Raises:
        InputError: it is absent, no JSON, of another version, or an entry is not what it has to
            be.
    """
    path = root / "meta" / "info.json"
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
    assumed = _assumed(raw, layout, has_videos=_has_videos(features))
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
    )


def _assumed(raw: Mapping[str, Any], layout: _Layout, *, has_videos: bool) -> dict[str, str]:
    """Return what is taken for entries that are not there, as LeRobot itself writes them."""
    paths = {"data_path": layout.data_path} | (
        {"video_path": layout.video_path} if has_videos else {}
    )
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


def _has_videos(features: Mapping[str, Any]) -> bool:
    return any(
        isinstance(entry, dict) and entry.get("dtype") == "video" for entry in features.values()
    )


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
