"""Read robomimic's HDF5 files: demos, arrays, filter keys and the description of the environment.

Layout: ``data/<demo>/actions``, ``data/<demo>/obs/<key>``, all time first; ``mask/<filter key>``
lists names of demos; ``data.attrs["env_args"]`` is JSON. Nothing else is needed, and what is not
asked for may be damaged. Shapes, dtypes, lengths and sizes are checked against one another before
values are read, and values are read demo by demo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.data.hdf5.array import Hdf5Array, ObjectRefused, as_text, reading
from lfm_policy.data.hdf5.file import Hdf5File, Hdf5Group
from lfm_policy.data.images.layout import ImageLayout, image_layout
from lfm_policy.data.replay_buffer import check_array_type, not_finite
from lfm_policy.data.robomimic import env as robomimic_env
from lfm_policy.data.robomimic.names import DROP_IT, numeric_order, one_episode_hint, some_names
from lfm_policy.errors import InputError
from lfm_policy.machine import total_memory
from lfm_runtime.closing import Closing
from lfm_runtime.registry import nearest_names

_PART_BYTES = 32 * 2**20
"""Images are read in parts of about this size, or one chunk of the file where that is larger."""

_FEW_NAMES = 1000
"""A filter key may list so many names, or ten times as many as there are demos."""

_TEXT_BYTES = 64 * 2**20
"""No model of a scene is larger."""


@dataclass(frozen=True)
class KeyInfo:
    """What is known of an array of a demo, or of that array in all demos.

    Attributes:
        shape: of a step, without time.
        dtype: as it is stored.
        problem: why it cannot be read at all, to follow its name; ``""`` if it can.
        rows: how many steps of it there are in a demo, where that was asked.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    problem: str = ""
    rows: int | None = field(default=None, compare=False)

    @property
    def layout(self) -> ImageLayout | None:
        """How its steps are stored as images; None if they are none."""
        return image_layout(self.shape, self.dtype)


class RobomimicFile(Closing):
    """An open file; every failure of HDF5 below it becomes an :class:`InputError`.

    Attributes:
        demos: names of all demos in numeric order, ``demo_2`` before ``demo_10``.
        path: where the file is.
        has_env_args: whether the file says in which environment the demos were recorded.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a file and look for its demos.

        Raises:
            InputError: there is no such file, it is no HDF5 file, or it holds no demos.
        """
        self._file = Hdf5File(path, "robomimic's HDF5")
        self.path = self._file.path
        try:
            self._data = self._group("data")
            self.demos = tuple(sorted(self._data.names(), key=numeric_order))
            for demo in self.demos:
                self._demo(demo)  # says which one is none
            if not self.demos:
                raise InputError(
                    f"{self.path}: the group data holds no demos; expected data/demo_0 and so on"
                )
            self.has_env_args = self._data.has_attribute(robomimic_env.ENV_ARGS)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def select(self, name: str | None) -> tuple[str, ...]:
        """Return the demos that ``mask/<name>`` lists, in numeric order; all for None.

        Raises:
            InputError: there is no such list, it cannot be read, or it names no demo or one that
                is absent.
        """
        if name is None:
            return self.demos
        source = f"{self.path}: mask/{name}"
        names = self._filter_names()
        if name not in names:
            near = nearest_names(name, names) if names else "dataset.filter_key=null reads all"
            raise InputError(f"{self.path}: there is no filter key mask/{name}: {near}")
        mask = self._file.root.find(f"mask/{name}")
        if not isinstance(mask, Hdf5Array):
            raise InputError(f"{source} is no list; expected names of demos")
        listed = set(mask.read_names(max(_FEW_NAMES, 10 * len(self.demos))))
        if unknown := listed.difference(self.demos):
            demo = min(unknown)
            raise InputError(
                f"{source} lists '{demo:.100}', which is not among the {len(self.demos)} demos "
                f"under data: {nearest_names(demo, self.demos)}"
            )
        if not listed:
            raise InputError(f"{source} lists no demo: there is nothing to read")
        return tuple(sorted(listed, key=numeric_order))

    def filter_keys(self) -> dict[str, tuple[str, ...] | InputError]:
        """Return the demos of every filter key; of one that cannot be read, the error."""
        lists: dict[str, tuple[str, ...] | InputError] = {}
        try:
            names = self._filter_names()
        except InputError as error:
            return {"": error}
        for name in names:
            try:
                lists[name] = self.select(name)
            except InputError as error:
                lists[name] = error
        return lists

    def _filter_names(self) -> tuple[str, ...]:
        masks = self._file.root.find("mask")
        return masks.names() if isinstance(masks, Hdf5Group) else ()

    def stored(self, demo: str) -> dict[str, KeyInfo]:
        """Return every array of a demo by its name inside it; those of groups as ``obs/<key>``.

        Raises:
            InputError: the demo is damaged.
        """
        arrays = {}
        for name, array in self._demo(demo).arrays():
            if isinstance(array, ObjectRefused):
                arrays[name] = KeyInfo((), np.dtype(np.void), array.reason)
            else:
                problem = array.problem or ("" if array.shape else "has no time axis")
                rows = array.shape[0] if array.shape else None
                arrays[name] = KeyInfo(array.shape[1:], array.dtype, problem, rows)
        return arrays

    def observation_keys(self, demo: str) -> tuple[str, ...]:
        """Return the names below ``obs`` of a demo; ``obs`` alone where that is an array.

        Raises:
            InputError: it has no observations.
        """
        group = self._demo(demo)
        obs = group.find("obs")
        if isinstance(obs, Hdf5Array):
            return ("obs",)
        if isinstance(obs, Hdf5Group) and (keys := obs.names()):
            return keys
        states = isinstance(group.find("states"), Hdf5Array)
        hint = f"; {robomimic_env.replay_hint(self.path)}" if states else ""
        raise InputError(
            f"{self.path}: {demo} has no observations under obs (it holds: "
            f"{some_names(group.names())}){hint}"
        )

    def observation(self, key: str) -> str:
        """Return where an observation is inside a demo, for the other methods.

        That is ``obs/<key>``, or ``obs`` where that is an array: Isaac Lab writes all terms of its
        observations end to end.
        """
        in_one = key == "obs" and isinstance(self._data.find(f"{self.demos[0]}/obs"), Hdf5Array)
        return "obs" if in_one else f"obs/{key}"

    def num_samples(self, demo: str) -> int:
        """Return the number of steps of a demo: of its actions, its attribute or its first array.

        Raises:
            InputError: none of them says it.
        """
        length = self.n_steps(demo, "actions")
        if length is None:
            length = self._announced(demo)
        if length is not None:
            return length
        for _, array in self._demo(demo).arrays():
            if isinstance(array, Hdf5Array) and array.shape:
                return array.shape[0]
        raise InputError(f"{self.path}: {demo} holds no arrays")

    def is_marked_failed(self, demo: str) -> bool:
        """Return whether the attribute ``success`` of a demo says no, as Isaac Lab writes it."""
        try:
            said = self._attribute(demo, "success")
        except InputError:  # too large for a mark: nobody asked for it
            return False
        return said is not None and said.size == 1 and said.dtype.kind in "biuf" and not said.item()

    def n_steps(self, demo: str, name: str) -> int | None:
        """Return how many steps an array of a demo holds; None where it cannot be told."""
        try:
            return self._array(demo, name).shape[0]
        except InputError:
            return None

    def lengths(self, demos: Sequence[str], action_key: str) -> list[int]:
        """Return the number of steps of every demo: the length of its actions.

        Raises:
            InputError: a demo has no actions, is empty, or its ``num_samples`` is another number.
        """
        lengths = []
        for demo in demos:
            length, source = int(self._array(demo, action_key).shape[0]), f"{self.path}: {demo}"
            if not length:
                raise InputError(f"{source} is empty ({action_key} holds no steps): {DROP_IT}")
            if (announced := self._announced(demo)) not in (None, length):
                raise InputError(
                    f"{source} has {length} {action_key}, but num_samples is {announced}; expected "
                    f"the same: the recording is incomplete: {DROP_IT}"
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
        infos: list[KeyInfo] = []
        for demo, length in zip(demos, lengths, strict=True):
            array = self._array(demo, name)
            source = f"{self.path}: {demo}"
            check_array_type(name, array.shape, array.dtype, source=source, ranks=ranks)
            if array.shape[0] != length:
                raise InputError(
                    f"{source}: {name} has {array.shape[0]} steps, expected {length}, as many as "
                    f"actions: {DROP_IT}"
                )
            infos.append(KeyInfo(array.shape[1:], array.dtype))
            if infos[-1] != infos[0]:
                raise InputError(
                    f"{source}: {name} is {infos[-1].dtype} {infos[-1].shape} per step, expected "
                    f"{infos[0].dtype} {infos[0].shape}, as in {demos[0]}: {DROP_IT}"
                )
            array.check()
        return infos[0]

    def read(
        self, demos: Sequence[str], name: str, lengths: Sequence[int], info: KeyInfo
    ) -> np.ndarray:
        """Return an array of all demos end to end, read demo by demo.

        Returns:
            (T, *shape) with the stored dtype, in native byte order; (T, 1) where a step is a
            scalar.

        Raises:
            InputError: it cannot be read, does not fit into memory, or is not finite in float32.
        """
        shape = (sum(lengths), *(info.shape or (1,)))
        n_bytes, there = math.prod(shape) * info.dtype.itemsize, total_memory()
        if 0 < there < n_bytes:
            raise InputError(
                f"{self.path}: {name} of all demos needs {n_bytes:,} bytes of memory, and this "
                f"machine has {there:,}: leave it out with obs_keys, or read fewer demos with "
                "filter_key or max_episodes"
            )
        values = np.empty(shape, info.dtype.newbyteorder("="))
        begin = 0
        for demo, length in zip(demos, lengths, strict=True):
            part = values[begin : begin + length]
            source = f"{self.path}: {demo}: {name}"
            with reading(source):
                part[...] = self._array(demo, name).read().reshape(part.shape)
            steps, value = not_finite(part)
            if len(steps):
                raise InputError(
                    f"{source} holds {value} in step {steps[0]}; every value must be a finite "
                    "float32: repair or drop this demo"
                )
            begin += length
        return values

    def parts(self, demo: str, name: str) -> Iterator[np.ndarray]:
        """Yield an array of one demo in parts of bounded size.

        Raises:
            InputError: it cannot be read.
        """
        array = self._array(demo, name)
        row_bytes = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
        # Whole chunks: a chunk that is read in two parts is decoded twice.
        whole = array.chunk_rows or 1
        rows = max(1, -(-(_PART_BYTES // row_bytes) // whole)) * whole
        for begin in range(0, array.shape[0], rows):
            yield array.read(begin, begin + rows)

    def text(self, demo: str, key: str) -> str:
        """Return ``model_file`` (XML of the scene) or ``ep_meta`` (JSON) of a demo, else ``""``.

        Raises:
            InputError: it cannot be read.
        """
        group = self._demo(demo)
        if not group.has_attribute(key):
            return ""
        with reading(f"{self.path}: {key} of {demo}"):
            return as_text(group.attribute(key, _TEXT_BYTES))

    def env_args(self, *, raw: bool = False) -> dict[str, Any]:
        """Return the description of the environment that the demos were recorded in.

        Args:
            raw: whether what robosuite's raw recordings have instead will do.

        Returns:
            At least ``env_name`` (str), ``type`` (int; 1 is robosuite) and ``env_kwargs`` (dict);
            ``env_version`` (str) where the file says it.

        Raises:
            InputError: there is no such description, or it does not parse or lacks one of these.
        """
        return robomimic_env.env_args_of(self._data, raw=raw)

    def _attribute(self, demo: str, key: str) -> np.ndarray | None:
        group = self._demo(demo)
        return np.asarray(group.attribute(key)) if group.has_attribute(key) else None

    def _announced(self, demo: str) -> int | None:
        value = self._attribute(demo, "num_samples")
        if value is None:
            return None
        if value.size != 1 or value.dtype.kind not in "iu":
            raise InputError(
                f"{self.path}: {demo} has num_samples {value.tolist()!r:.100}; expected an integer"
            )
        return int(value.item())

    def _demo(self, demo: str) -> Hdf5Group:
        return self._group(f"data/{demo}")

    def _group(self, path: str) -> Hdf5Group:
        root = self._file.root
        child = root.find(path)
        if isinstance(child, Hdf5Group):
            return child
        parent = root if path == "data" else self._data
        found = "there is no" if child is None else "an array was found instead of the"
        raise InputError(
            f"{self.path}: {found} group {path} (found: {some_names(parent.names())}); "
            "expected robomimic's layout data/demo_0/actions, data/demo_0/obs/<key>"
            + (one_episode_hint(parent.names()) if parent is root else "")
        )

    def _array(self, demo: str, name: str) -> Hdf5Array:
        array = self._data.find(f"{demo}/{name}")
        source = f"{self.path}: {demo}"
        if not isinstance(array, Hdf5Array):
            if array is not None:  # its arrays are what can be asked for
                inside = f"{name}/"
                held = tuple(key for key in self.stored(demo) if key.startswith(inside))
            elif name.startswith("obs/"):
                held = self.observation_keys(demo)
            else:
                held = self._demo(demo).names()
            held = tuple(key.removeprefix("obs/") for key in held)
            what = "has no" if array is None else "has a group instead of the array"
            raise InputError(
                f"{source} {what} {name}: {nearest_names(name.removeprefix('obs/'), held)} (it "
                f"holds: {some_names(held)})"
            )
        array.name = f"{source}: {name}"
        if array.problem:
            raise ObjectRefused(array.name, array.problem)
        if not array.shape:
            raise InputError(f"{source}: {name} has no time axis, expected shape (steps, ...)")
        return array
