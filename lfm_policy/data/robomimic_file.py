"""Read robomimic's HDF5 files: demos, arrays, filter keys and the description of the environment.

Layout: ``data/<demo>/actions``, ``data/<demo>/obs/<key>``, all time first; ``mask/<filter key>``
lists names of demos; ``data.attrs["env_args"]`` is JSON. Shapes, dtypes, lengths and sizes are
checked against one another before values are read, and values are read demo by demo.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from lfm_policy.data.image_cache import CachedImages
from lfm_policy.data.replay_buffer import check_array_type
from lfm_policy.data.robomimic_checks import (
    as_text,
    brief,
    check_env_args,
    check_finite,
    check_size,
    numeric_order,
    reading,
)
from lfm_policy.errors import InputError
from lfm_policy.files import exists, is_file
from lfm_policy.registry import nearest_names

_PART_BYTES = 32 * 2**20
"""Images are read in parts of about this size, or one chunk of the file where that is larger."""

_REPLAY = (
    "it is a recording of simulator states: observations have to be extracted by replaying its "
    "states (lfm-policy extract writes such a file)"
)


@dataclass(frozen=True)
class KeyInfo:
    """What all demos have in common in one array: shape of a step, without time, and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class RobomimicSummary:
    """What a file holds, from its metadata alone.

    Attributes:
        keys: every array of the first demo by its name inside the demo, ``obs/<key>`` included.
        demos: number of steps by name of the demo, in numeric order.
        filter_keys: names of demos by filter key.
        env_args: description of the environment; None where the file has none.
    """

    keys: dict[str, KeyInfo]
    demos: dict[str, int]
    filter_keys: dict[str, tuple[str, ...]]
    env_args: dict[str, Any] | None


def inspect_robomimic(path: str | Path) -> RobomimicSummary:
    """Return what a file holds, reading metadata only.

    Raises:
        InputError: the file is absent or damaged, or is not laid out as robomimic's are.
    """
    with RobomimicFile(path) as file:
        return RobomimicSummary(
            keys=file.stored(file.demos[0]),
            demos={demo: file.num_samples(demo) for demo in file.demos},
            filter_keys={key: file.select(key) for key in file.filter_keys},
            env_args=file.env_args() if file.has_env_args else None,
        )


def read_env_args(path: str | Path) -> dict[str, Any]:
    """Return ``env_args``, the description of the environment that the demos were recorded in.

    Returns:
        At least ``env_name`` (str), ``type`` (int; 1 is robosuite) and ``env_kwargs`` (dict);
        ``env_version`` (str) where the file says it.

    Raises:
        InputError: there is no such description, or it does not parse or lacks one of these.
    """
    with RobomimicFile(path) as file:
        return file.env_args()


def robomimic_images(
    path: str | Path, name: str, demos: Sequence[str], n_frames: int, shape: tuple[int, ...]
) -> CachedImages:
    """Return the images of one camera, to be read demo by demo when they are needed.

    Args:
        path: the file.
        name: of the array inside a demo, ``obs/<key>``; uint8 (steps, height, width, channels).
        demos: whose images, in this order.
        n_frames: of all these demos together.
        shape: (height, width, channels).
    """
    height, width, channels = shape
    path = Path(path).expanduser()
    status = path.stat()
    facts = {
        "format": "robomimic",
        "file": str(path.resolve()),
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        "array": name,
        "demos": list(demos),
    }
    frames = _image_parts(path, name, demos)
    return CachedImages(f"{path}: {name}", facts, n_frames, (height, width, channels), frames)


def _image_parts(path: Path, name: str, demos: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the images in parts; the file is not opened before the first is asked for."""
    with RobomimicFile(path) as file:
        for demo in demos:
            yield from file.parts(demo, name)


class RobomimicFile:
    """An open file; every failure of HDF5 below it becomes an :class:`InputError`.

    Attributes:
        demos: names of all demos in numeric order, ``demo_2`` before ``demo_10``.
        filter_keys: names of all lists of demos.
        has_env_args: whether the file says in which environment the demos were recorded.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file and look for its demos.

        Raises:
            InputError: there is no such file, it is no HDF5 file, or it holds no demos.
        """
        self._path = Path(path).expanduser()
        if not exists(self._path):
            raise InputError(f"{path}: no such file; expected robomimic's HDF5")
        if not is_file(self._path):
            raise InputError(f"{path}: is no regular file; expected robomimic's HDF5")
        try:
            self._file = h5py.File(self._path, "r")
        except Exception as error:
            raise InputError(
                f"{path}: cannot be opened as HDF5 ({brief(error)}); expected robomimic's HDF5. "
                "The file may be truncated (copy or download it again) or of another format"
            ) from error
        try:
            self._data = self._group(self._file, "data", "data")
            self.demos = self._find_demos()
            mask = self._child(self._file, "mask", "mask")
            self._mask = mask if isinstance(mask, h5py.Group) else None
            self.filter_keys = tuple(self._mask) if self._mask is not None else ()
            self.has_env_args = "env_args" in self._data.attrs
        except BaseException:
            self._file.close()
            raise

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def __enter__(self) -> RobomimicFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def select(self, filter_key: str | None) -> tuple[str, ...]:
        """Return the demos that ``mask/<filter_key>`` lists, in numeric order; all for None.

        Raises:
            InputError: there is no such filter key, or it lists no demo or one that is absent.
        """
        if filter_key is None:
            return self.demos
        name = f"mask/{filter_key}"
        if filter_key not in self.filter_keys:
            raise InputError(
                f"{self._path}: there is no filter key {name}: "
                + nearest_names(filter_key, self.filter_keys)
            )
        assert self._mask is not None
        mask = self._child(self._mask, filter_key, name)
        source = f"{self._path}: {name}"
        if not isinstance(mask, h5py.Dataset) or len(mask.shape or ()) != 1:
            raise InputError(f"{source} is no list; expected names of demos")
        if mask.dtype.kind not in "SO":
            raise InputError(f"{source} has dtype {mask.dtype}; expected names of demos")
        with reading(source):
            names = [as_text(value) for value in mask[()]]
        for demo in names:
            if demo not in self.demos:
                raise InputError(
                    f"{source} lists '{demo}', which is not among the {len(self.demos)} demos "
                    f"under data: {nearest_names(demo, self.demos)}"
                )
        if not names:
            raise InputError(f"{source} lists no demo: there is nothing to read")
        return tuple(sorted(set(names), key=numeric_order))

    def stored(self, demo: str) -> dict[str, KeyInfo]:
        """Return every array of a demo by its name inside it; those of groups as ``obs/<key>``.

        Raises:
            InputError: the demo is damaged.
        """
        arrays = {}
        group = self._group(self._data, demo, f"data/{demo}")
        for name in group:
            child = self._child(group, name, f"{demo}/{name}")
            names = [f"{name}/{key}" for key in child] if isinstance(child, h5py.Group) else [name]
            for full_name in names:
                dataset = self._find(demo, full_name)
                if isinstance(dataset, h5py.Dataset) and dataset.shape:
                    arrays[full_name] = KeyInfo(dataset.shape[1:], dataset.dtype)
        return arrays

    def observation_keys(self, demo: str) -> tuple[str, ...]:
        """Return the names below ``obs`` of a demo.

        Raises:
            InputError: it has no observations.
        """
        group = self._group(self._data, demo, f"data/{demo}")
        obs = self._child(group, "obs", f"{demo}/obs")
        if isinstance(obs, h5py.Group) and len(obs):
            return tuple(obs)
        held = f"it holds: {', '.join(group) or 'nothing'}"
        hint = f"; {_REPLAY}" if "states" in group else ""
        raise InputError(f"{self._path}: {demo} has no observations under obs ({held}){hint}")

    def num_samples(self, demo: str) -> int:
        """Return the number of steps of a demo, as its attribute or else its first array says.

        Raises:
            InputError: neither says it.
        """
        if (announced := self._announced(demo)) is not None:
            return announced
        for name in self.stored(demo):
            return int(self._array(demo, name).shape[0])
        raise InputError(f"{self._path}: {demo} holds no arrays")

    def lengths(self, demos: Sequence[str], action_key: str) -> list[int]:
        """Return the number of steps of every demo: the length of its actions.

        Raises:
            InputError: a demo has no actions, is empty, or its ``num_samples`` is another number.
        """
        lengths = []
        for demo in demos:
            length = int(self._array(demo, action_key).shape[0])
            if not length:
                raise InputError(f"{self._path}: {demo} is empty ({action_key} holds no steps)")
            announced = self._announced(demo)
            if announced is not None and announced != length:
                raise InputError(
                    f"{self._path}: {demo} has {length} {action_key}, but num_samples is "
                    f"{announced}; expected the same: the recording is incomplete"
                )
            lengths.append(length)
        return lengths

    def info(
        self, demos: Sequence[str], name: str, lengths: Sequence[int], ranks: tuple[int, ...]
    ) -> KeyInfo:
        """Return what an array is in all of ``demos``.

        Args:
            demos: those that will be read.
            name: of the array inside a demo.
            lengths: number of steps of every demo.
            ranks: the ranks allowed, time included.

        Raises:
            InputError: the array is absent from a demo, has another length than the demo, differs
                in shape or dtype from the first one, is not numeric, or cannot be in the file.
        """
        first: KeyInfo | None = None
        for demo, length in zip(demos, lengths, strict=True):
            array = self._array(demo, name)
            source = f"{self._path}: {demo}"
            check_array_type(name, array.shape, array.dtype, source=source, ranks=ranks)
            if array.shape[0] != length:
                raise InputError(
                    f"{source}: {name} has {array.shape[0]} steps, expected {length}, as many as "
                    "actions"
                )
            info = KeyInfo(array.shape[1:], array.dtype)
            first = first or info
            if info != first:
                raise InputError(
                    f"{source}: {name} is {info.dtype} {info.shape} per step, expected "
                    f"{first.dtype} {first.shape}, as in {demos[0]}"
                )
            check_size(array, f"{source}: {name}")
        assert first is not None
        return first

    def read(
        self, demos: Sequence[str], name: str, lengths: Sequence[int], info: KeyInfo
    ) -> np.ndarray:
        """Return an array of all demos end to end, read demo by demo.

        Returns:
            (T, *shape) with the stored dtype, in native byte order; (T, 1) where a step is a
            scalar.

        Raises:
            InputError: it cannot be read, or holds NaN or infinity (in float32).
        """
        shape = info.shape or (1,)
        values = np.empty((sum(lengths), *shape), info.dtype.newbyteorder("="))
        begin = 0
        for demo, length in zip(demos, lengths, strict=True):
            part = values[begin : begin + length]
            source = f"{self._path}: {demo}: {name}"
            with reading(source):
                part[...] = self._array(demo, name)[()].reshape(part.shape)
            check_finite(part, source)
            begin += length
        return values

    def parts(self, demo: str, name: str) -> Iterator[np.ndarray]:
        """Yield an array of one demo in parts of bounded size.

        Raises:
            InputError: it cannot be read.
        """
        array = self._array(demo, name)
        row_bytes = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
        rows = max(1, _PART_BYTES // row_bytes)
        if array.chunks:  # whole chunks: a chunk that is read in two parts is decoded twice
            rows = -(-rows // array.chunks[0]) * array.chunks[0]
        for begin in range(0, array.shape[0], rows):
            with reading(f"{self._path}: {demo}: {name}"):
                part = array[begin : begin + rows]
            yield part

    def model_file(self, demo: str) -> str:
        """Return the XML of a demo's scene, ``""`` where it has none.

        Raises:
            InputError: it cannot be read.
        """
        attributes = self._group(self._data, demo, f"data/{demo}").attrs
        with reading(f"{self._path}: model_file of {demo}"):
            return as_text(attributes["model_file"]) if "model_file" in attributes else ""

    def ep_meta(self, demo: str) -> str:
        """Return the JSON about an episode, ``""`` where it has none.

        Raises:
            InputError: it cannot be read.
        """
        attributes = self._group(self._data, demo, f"data/{demo}").attrs
        with reading(f"{self._path}: ep_meta of {demo}"):
            return as_text(attributes["ep_meta"]) if "ep_meta" in attributes else ""

    def recorded_env_args(self) -> dict[str, Any]:
        """Return the description of the environment, also that of robosuite's raw recordings.

        These have the attributes ``env`` and ``env_info`` (JSON) instead of ``env_args``.

        Raises:
            InputError: there is no description of either kind, or it does not parse.
        """
        attributes = self._data.attrs
        if self.has_env_args or "env" not in attributes or "env_info" not in attributes:
            return self.env_args()
        source = f"{self._path}: data.attrs['env_info']"
        with reading(source):
            name, text = as_text(attributes["env"]), as_text(attributes["env_info"])
            version = as_text(attributes.get("repository_version", ""))
        try:
            kwargs = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{source} does not parse as JSON ({brief(error)}); expected an object with the "
                "arguments of the environment"
            ) from None
        if isinstance(kwargs, dict):
            kwargs.pop("env_name", None)
        described = {"env_name": name, "env_version": version, "type": 1, "env_kwargs": kwargs}
        return check_env_args(described, source)

    def env_args(self) -> dict[str, Any]:
        """Return the description of the environment; see :func:`read_env_args`."""
        source = f"{self._path}: data.attrs['env_args']"
        if not self.has_env_args:
            raw = [key for key in ("env", "env_info") if key in self._data.attrs]
            hint = f" (it has {' and '.join(raw)}: {_REPLAY})" if raw else ""
            raise InputError(f"{source} is absent, expected JSON{hint}")
        with reading(source):
            value = self._data.attrs["env_args"]
        try:
            parsed = json.loads(as_text(value))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{source} does not parse as JSON ({brief(error)}); expected an object with "
                "env_name, type and env_kwargs"
            ) from None
        return check_env_args(parsed, source)

    def _announced(self, demo: str) -> int | None:
        attributes = self._group(self._data, demo, f"data/{demo}").attrs
        if "num_samples" not in attributes:
            return None
        with reading(f"{self._path}: num_samples of {demo}"):
            value = np.asarray(attributes["num_samples"])
        if value.size != 1 or value.dtype.kind not in "iu":
            raise InputError(
                f"{self._path}: {demo} has num_samples {value.tolist()!r:.100}; expected an integer"
            )
        return int(value.item())

    def _find_demos(self) -> tuple[str, ...]:
        for name in self._data:
            self._group(self._data, name, f"data/{name}")
        if not len(self._data):
            raise InputError(
                f"{self._path}: the group data holds no demos; expected data/demo_0 and so on"
            )
        return tuple(sorted(self._data, key=numeric_order))

    def _group(self, parent: h5py.Group, name: str, full_name: str) -> h5py.Group:
        child = self._child(parent, name, full_name)
        if isinstance(child, h5py.Group):
            return child
        found = "there is no" if child is None else "an array was found instead of the"
        held = ", ".join(list(parent)[:10]) or "nothing"
        raise InputError(
            f"{self._path}: {found} group {full_name} (found: {held}); expected robomimic's "
            "layout data/demo_0/actions, data/demo_0/obs/<key>"
        )

    def _child(self, parent: h5py.Group, name: str, full_name: str) -> Any:
        """Return what is called ``name``; None if there is nothing."""
        with reading(f"{self._path}: {full_name}"):
            link = parent.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise InputError(
                    f"{self._path}: {full_name} is a link into another file; expected all data in "
                    "one file"
                )
            return parent.get(name)

    def _find(self, demo: str, name: str) -> Any:
        here: Any = self._group(self._data, demo, f"data/{demo}")
        for step in name.split("/"):
            if not isinstance(here, h5py.Group):
                return None
            here = self._child(here, step, f"{demo}/{name}")
        return here

    def _array(self, demo: str, name: str) -> h5py.Dataset:
        array = self._find(demo, name)
        source = f"{self._path}: {demo}"
        if not isinstance(array, h5py.Dataset):
            if name.startswith("obs/"):
                held = self.observation_keys(demo)
            else:
                held = tuple(self._group(self._data, demo, f"data/{demo}"))
            what = "has no" if array is None else "has a group instead of the array"
            raise InputError(
                f"{source} {what} {name}: {nearest_names(name.rpartition('/')[2], held)} (it "
                f"holds: {', '.join(held) or 'nothing'})"
            )
        if not array.shape:
            raise InputError(f"{source}: {name} has no time axis, expected shape (steps, ...)")
        if array.external or array.is_virtual:
            raise InputError(
                f"{source}: {name} is stored in other files; expected all data in one file"
            )
        return array
