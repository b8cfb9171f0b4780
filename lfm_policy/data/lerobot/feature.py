"""What ``meta/info.json`` of a LeRobot dataset says of one feature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lfm_policy.errors import InputError

NUMERIC = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""The dtypes of features that are read as numbers."""

_MAX_VALUES = 2**20
_MAX_SIDE = 8192


WITHOUT_IT = "name the features to be observed in obs_keys, without this one"


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
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    codec: str = ""

    @property
    def is_camera(self) -> bool:
        """Whether it is stored as pictures, in a video or one by one."""
        return self.dtype in ("video", "image")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a camera."""
        height, width, channels = self.shape
        return height, width, channels


def read_feature(key: str, entry: Any, source: str) -> Feature:
    """Return a feature that can be read, from its entry in info.json.

    Args:
        key: its name.
        entry: what info.json holds under that name.
        source: file and key, for messages.

    Raises:
        UnusableFeature: its dtype or shape is none that can be observed.
    """
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
    if dtype in ("video", "image"):
        _check_no_depth(entry, source)
        frame_shape = _frame_shape(shape, source, has_alpha=dtype == "image")
        return Feature(key, dtype, frame_shape, _codec(entry))
    if math.prod(shape) > _MAX_VALUES:
        raise UnusableFeature(
            f"{source} has shape {list(shape)}, {math.prod(shape)} values per step; expected "
            f"at most {_MAX_VALUES}"
        )
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


def _frame_shape(shape: tuple[int, ...], source: str, *, has_alpha: bool) -> tuple[int, int, int]:
    channels = (1, 3, 4) if has_alpha else (1, 3)
    # Datasets disagree on the order, and on `names` even more: the smallest side is the channels.
    if len(shape) == 3 and shape[2] not in channels:
        shape = (shape[1], shape[2], shape[0])
    if len(shape) != 3 or shape[2] not in channels or max(shape) > _MAX_SIDE:
        raise UnusableFeature(
            f"{source} has shape {list(shape)}; expected images [height, width, channels] of at "
            f"most {_MAX_SIDE} pixels a side and {' or '.join(map(str, channels))} channels"
        )
    height, width, n_channels = shape
    return height, width, n_channels


def _check_no_depth(entry: Mapping[str, Any], source: str) -> None:
    for details in _details(entry):
        if any(details.get(key) is True for key in ("is_depth_map", "video.is_depth_map")):
            raise UnusableFeature(
                f"{source} is a depth map; expected a camera of 8 bits per channel"
            )


def _codec(entry: Mapping[str, Any]) -> str:
    names = [details.get("video.codec") for details in _details(entry)]
    return next((name[:50] for name in names if isinstance(name, str)), "")


def _details(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what is said of a camera beyond its shape, under the names of all versions."""
    found = (entry, entry.get("info"), entry.get("video_info"))
    return [details for details in found if isinstance(details, dict)]


def shown(value: Any) -> str:
    """Return a value of a JSON file for a message, in bounded length."""
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
