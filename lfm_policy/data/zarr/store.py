"""Read and write Diffusion Policy's zarr replay buffers.

Layout: ``data/<key>`` with time first and ``meta/episode_ends``, cumulative and exclusive; a
directory store or a zip of one, zarr format v2 (what is found in the wild) or v3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from lfm_policy.data.images.cache import (
    CachedImages,
    chosen_frames,
    steps_digest,
    stored_images,
)
from lfm_policy.data.images.depth import depth_layout, refuse_unnamed_depth
from lfm_policy.data.images.layout import ImageLayout, image_layout
from lfm_policy.data.replay_buffer import (
    ReplayBuffer,
    check_array_type,
    check_episode_ends,
    check_lengths,
)
from lfm_policy.data.tools.broken import broken_in_words, not_finite_episodes
from lfm_policy.data.tools.contents import StoredArray
from lfm_policy.data.zarr.reader import DATA, OpenedArray, ZarrReader
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import atomic_file, atomic_folder, require_absent
from lfm_runtime.policy.spec import is_range

_ENDS = "meta/episode_ends"
TASK_INDEX = "task_index"
"""The array that says which of the store's ``tasks`` a step belongs to."""
_CHUNK_BYTES = 2**20
LOW_DIMENSIONAL = (1, 2, 3)
"""Ranks of arrays that are observations without being images; of one step they are 0 to 2."""


@dataclass(frozen=True)
class ArrayInfo:
    """Metadata of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def layout(self) -> ImageLayout | None:
        """How its steps are stored as images; None if they are none."""
        return image_layout(self.shape[1:], self.dtype)


@dataclass(frozen=True)
class ZarrListing:
    """Every array under ``data/`` by its key.

    Attributes:
        readable: those of which values can be read.
        unreadable: those of which nothing can: shape and dtype as far as they are known, and why.
        depth: those of ``readable`` that hold levels of depth already, see `depth_levels`, and the
            nearest and the farthest distance that the store notes of them.
    """

    readable: dict[str, ArrayInfo]
    unreadable: dict[str, StoredArray]
    depth: dict[str, tuple[float, float]]


def list_zarr(path: str | Path) -> ZarrListing:
    """Return what is under ``data/``, reading metadata only.

    Raises:
        InputError: nothing is there, or it is no zarr store.
    """
    with ZarrReader(Path(path)) as store:
        listing = ZarrListing({}, {}, {})
        for name in store.array_names:
            key = name.removeprefix(DATA)
            if key == name:
                continue
            try:
                opened = store.open(name)
            except InputError as error:
                shape, dtype = store.described(name)
                listing.unreadable[key] = StoredArray(
                    shape, dtype, False, str(error), unusable=True, broken=not dtype
                )
            else:
                listing.readable[key] = ArrayInfo(opened.shape, opened.dtype)
        noted = store.attributes().get("depth")
    for key, ends in noted.items() if isinstance(noted, dict) else ():
        info = listing.readable.get(key)
        if info and info.dtype == np.uint8 and info.shape[3:] == (1,) and is_range(ends):
            listing.depth[key] = (float(ends[0]), float(ends[1]))
    return listing


def stored_rate(path: str | Path) -> float | None:
    """Return the steps per second that a store names; None where it does not.

    Raises:
        InputError: nothing is there, or it is no zarr store.
    """
    with ZarrReader(Path(path)) as store:
        return store.rate()


def stored_tasks(path: str | Path) -> list[str]:
    """Return the names of tasks that a store has among its attributes; empty for none.

    Raises:
        InputError: nothing is there, or it is no zarr store.
    """
    with ZarrReader(Path(path)) as store:
        names = store.attributes().get("tasks")
    return [str(name) for name in names] if isinstance(names, list) else []


def stored_ends(path: str | Path) -> np.ndarray:
    """Return where episodes end, (E,) int64, see `ReplayBuffer`.

    Raises:
        InputError: no zarr store, or its episode ends are absent or damaged.
    """
    with ZarrReader(Path(path)) as store:
        return _episode_ends(store)


def check_observation(key: str, info: ArrayInfo, source: str) -> None:
    """Check that an array can be an observation, from its metadata alone.

    Raises:
        InputError: its rank is none of an image's or a low-dimensional array's, or it looks like
            depth.
    """
    refuse_unnamed_depth(key, info.shape[1:], info.dtype, f"{source}: data/{key}")
    ranks = () if info.layout is not None else LOW_DIMENSIONAL
    check_array_type(f"data/{key}", info.shape, info.dtype, source=source, ranks=ranks)


def load_zarr(path: str | Path, keys: Iterable[str]) -> ReplayBuffer:
    """Read ``data/<key>`` for every key, and the episode ends.

    Shapes, dtypes, chunk files and sizes are checked against one another before anything large is
    read; the values after.

    Args:
        path: folder or zip of the store.
        keys: what to read; nothing else is touched.

    Returns:
        The validated buffer, arrays in the order of ``keys`` with their stored dtypes; (T, 1)
        where a step is a scalar.

    Raises:
        InputError: the store is absent, damaged, incomplete or holds something else; the message
            names file and array, what was found and what was expected.

    Warns:
        UserWarning: chunks are absent and were read as the fill value.
    """
    with ZarrReader(Path(path)) as store:
        ends = _episode_ends(store)
        opened = {key: _open(store, key, int(ends[-1])) for key in keys}
        arrays = {key: _values(store, array) for key, array in opened.items()}
    buffer = ReplayBuffer(arrays=arrays, episode_ends=ends, source=str(path))
    buffer.validate()
    return buffer


def load_usable(path: str | Path, keys: Iterable[str]) -> tuple[ReplayBuffer, dict[str, str]]:
    """Read like `load_zarr`, but leave out arrays that cannot be used.

    Returns:
        The buffer of all others, and why not by key of those.

    Raises:
        InputError: the store or its episode ends are damaged, or no array can be used.
    """
    arrays: dict[str, np.ndarray] = {}
    problems: dict[str, str] = {}
    with ZarrReader(Path(path)) as store:
        ends = _episode_ends(store)
        for key in keys:
            try:
                values = _values(store, _open(store, key, int(ends[-1])))
                if found := not_finite_episodes(values, ends):
                    raise InputError(broken_in_words(f"{path}: {DATA}{key}", found, len(ends)))
                ReplayBuffer({key: values}, ends, str(path)).validate()
            except InputError as error:
                problems[key] = str(error)
            else:
                arrays[key] = values
    if not arrays:
        raise InputError(
            "; ".join(problems.values()) or f"{path}: holds no low-dimensional array under data/"
        )
    return ReplayBuffer(arrays, ends, str(path)), problems


def load_arrays(path: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read arrays from anywhere in a store by their whole names, such as ``steps/time``.

    Raises:
        InputError: the store or an array is absent or damaged; the message names it.
    """
    with ZarrReader(Path(path)) as store:
        return {name: store.read(store.open(name), whole=True) for name in names}


def zarr_images(
    path: str | Path,
    key: str,
    n_frames: int,
    depth: tuple[float, float] | None = None,
    *,
    steps: np.ndarray | None = None,
) -> CachedImages:
    """Return ``n_frames`` images of ``data/<key>``, to be read when they are needed.

    Args:
        path: folder or zip of the store.
        key: which array.
        n_frames: how many.
        depth: nearest and farthest distance, where they are images of depth.
        steps: which, (n_frames,) ascending; by default the first ones.

    Raises:
        InputError: the array is absent, damaged or holds no images of 0 to 255.
    """
    path = Path(path)
    name = f"data/{key}"
    with ZarrReader(path) as store:
        opened = store.open(name)
        layout = (
            image_layout(opened.shape[1:], opened.dtype)
            if depth is None
            else depth_layout(opened.shape[1:], opened.dtype, opened.source)
        )
        if steps is not None and np.array_equal(steps, np.arange(n_frames)):
            steps = None  # the first ones, which may be in the cache as those
        last = n_frames if steps is None else int(steps[-1]) + 1
        if layout is None or opened.shape[0] < last:
            raise InputError(
                f"{opened.source} has shape {opened.shape}; expected images ({last}, height, "
                "width, 1, 3 or 4), channels first or grey"
            )
        facts = {"format": "zarr", "array": name, "files": store.files.identity(name)}
        if steps is not None:
            facts["steps"] = steps_digest(steps)

    def parts() -> Iterator[tuple[str, np.ndarray]]:
        with ZarrReader(path) as store:
            stored = store.parts(store.open(name), last)
            for part in stored if steps is None else chosen_frames(stored, steps):
                yield f"{path}: {name}", part

    return stored_images(f"{path}: {name}", key, facts, n_frames, layout, parts, depth)


def _open(store: ZarrReader, key: str, n_steps: int) -> OpenedArray:
    """Return an array under ``data/`` of a shape and dtype that a buffer may hold."""
    opened = store.open(f"{DATA}{key}")
    source = str(store.path)
    if len(opened.shape) != 1:  # else its steps are scalars, see `_values`
        check_array_type(opened.name, opened.shape, opened.dtype, source=source)
    check_lengths({opened.name: opened.shape[0]}, n_steps=n_steps, source=source)
    return opened


def _values(store: ZarrReader, opened: OpenedArray) -> np.ndarray:
    """Return what is stored, with an axis for the number of every step where that is a scalar."""
    values = store.read(opened)
    return values[:, None] if values.ndim == 1 else values


def _episode_ends(store: ZarrReader) -> np.ndarray:
    """Return the checked ends of the episodes, int64."""
    ends = store.read(store.open(_ENDS), whole=True)
    check_episode_ends(ends, source=str(store.path))
    return ends.astype(np.int64)


def write_zarr(
    path: str | Path,
    buffer: ReplayBuffer,
    *,
    fps: float | None = None,
    tasks: Sequence[str] = (),
) -> None:
    """Write a buffer in zarr format v2 with Blosc/zstd chunks, as Diffusion Policy does.

    The store appears under its name only when it is complete.

    Args:
        path: a name that ends in ``.zip`` gives a zip, any other a directory store.
        buffer: what to write; it is validated first. Its ranges of depth are kept as an attribute.
        fps: steps per second, kept as an attribute of the store; None: not known.
        tasks: what each episode shows, kept as ``data/task_index`` and as names of the numbers
            among the attributes; empty: not known.

    Raises:
        InputError: the buffer is not valid or ``path`` exists already.
    """
    buffer.validate()
    attributes: dict[str, Any] = {} if fps is None else {"fps": float(fps)}
    if buffer.depth:
        attributes["depth"] = {key: list(ends) for key, ends in buffer.depth.items()}
    if tasks:
        names, numbers = buffer.numbered(tasks)
        buffer = replace(buffer, arrays={**buffer.arrays, TASK_INDEX: numbers})
        attributes["tasks"] = names
    path = Path(path)
    require_absent(path)
    if path.suffix == ".zip":
        with atomic_file(path) as temporary:
            temporary.unlink()  # zarr wants to create the archive itself
            store = ZipStore(temporary, mode="w")
            try:
                _write(store, buffer, attributes)
            finally:
                store.close()
    else:
        with atomic_folder(path) as folder:
            _write(LocalStore(folder), buffer, attributes)


def _write(store: LocalStore | ZipStore, buffer: ReplayBuffer, attributes: dict[str, Any]) -> None:
    root = zarr.create_group(store, zarr_format=2, attributes=attributes)
    arrays = {f"data/{key}": array for key, array in buffer.arrays.items()}
    arrays[_ENDS] = np.asarray(buffer.episode_ends, dtype=np.int64)
    for group in ("data", "meta"):
        root.create_group(group)
    compressor = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    for name, values in arrays.items():
        rows = max(1, min(len(values), _CHUNK_BYTES // (values.nbytes // len(values))))
        array = root.create_array(
            name,
            shape=values.shape,
            chunks=(rows, *values.shape[1:]),
            dtype=values.dtype,
            compressors=compressor,
            config={"write_empty_chunks": True},  # an absent chunk may be one that was lost
        )
        array[...] = values
