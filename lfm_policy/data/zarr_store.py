"""Read and write Diffusion Policy's zarr replay buffers.

Layout: ``data/<key>`` with time first and ``meta/episode_ends``, cumulative and exclusive; a
directory store or a zip of one, zarr format v2 (what is found in the wild) or v3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numcodecs
import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from lfm_policy.data.image_cache import CachedImages, as_uint8
from lfm_policy.data.replay_buffer import (
    ReplayBuffer,
    check_array_type,
    check_episode_ends,
    check_lengths,
)
from lfm_policy.data.zarr_files import (
    COPY_AGAIN,
    ZarrFiles,
    check_chunks,
    check_codecs,
    chunk_coordinates,
    chunk_grid,
)
from lfm_policy.errors import InputError
from lfm_policy.files import atomic_file, atomic_folder
from lfm_policy.observations import is_image
from lfm_policy.registry import nearest_names

_ENDS = "meta/episode_ends"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class ArrayInfo:
    """Metadata of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def inspect_zarr(path: str | Path) -> dict[str, ArrayInfo]:
    """Return shape and dtype of every array under ``data/`` by its key, reading metadata only.

    Raises:
        InputError: nothing is there, it is no zarr store, or metadata do not parse.
    """
    with _Store(Path(path)) as store:
        infos = {}
        for name in store.array_names:
            folder, _, key = name.partition("/")
            if folder == "data" and key:
                array = store.open(name)
                infos[key] = ArrayInfo(shape=tuple(array.shape), dtype=np.dtype(array.dtype))
        return infos


def load_zarr(path: str | Path, keys: Iterable[str]) -> ReplayBuffer:
    """Read ``data/<key>`` for every key, and the episode ends.

    Shapes, dtypes, chunk files and sizes are checked against one another before anything large is
    read; the values after.

    Args:
        path: folder or zip of the store.
        keys: what to read; nothing else is touched.

    Returns:
        The validated buffer, arrays in the order of ``keys`` with their stored dtypes.

    Raises:
        InputError: the store is absent, damaged, incomplete or holds something else; the message
            names file and array, what was found and what was expected.
    """
    with _Store(Path(path)) as store:
        ends_array = store.open(_ENDS)
        if len(ends_array.shape) != 1 or ends_array.dtype.kind not in "iu":
            raise InputError(
                f"{path}: {_ENDS} has shape {ends_array.shape} and dtype {ends_array.dtype}; "
                "expected rank 1 and int64"
            )
        ends = store.read(_ENDS, ends_array).astype(np.int64)
        check_episode_ends(ends, source=str(path))

        opened = {key: store.open(f"data/{key}") for key in keys}
        for key, array in opened.items():
            check_array_type(f"data/{key}", array.shape, np.dtype(array.dtype), source=str(path))
        check_lengths(
            {f"data/{key}": array.shape[0] for key, array in opened.items()},
            n_steps=int(ends[-1]),
            source=str(path),
        )
        arrays = {key: store.read(f"data/{key}", array) for key, array in opened.items()}
    buffer = ReplayBuffer(arrays=arrays, episode_ends=ends, source=str(path))
    buffer.validate()
    return buffer


def load_arrays(path: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read arrays from anywhere in a store by their whole names, such as ``steps/time``.

    Raises:
        InputError: the store or an array is absent or damaged; the message names it.
    """
    with _Store(Path(path)) as store:
        return {name: store.read(name, store.open(name)) for name in names}


def zarr_images(path: str | Path, key: str, n_frames: int) -> CachedImages:
    """Return the first ``n_frames`` images of ``data/<key>``, to be read when they are needed.

    Raises:
        InputError: the array is absent, damaged or holds no images of 0 to 255.
    """
    path = Path(path)
    name = f"data/{key}"
    with _Store(path) as store:
        array = store.open(name)
        source = f"{path}: {name}"
        if not is_image(array.shape[1:]) or array.shape[0] < n_frames:
            raise InputError(
                f"{source} has shape {tuple(array.shape)}; expected images ({n_frames}, height, "
                "width, 1, 3 or 4)"
            )
        height, width, channels = (int(size) for size in array.shape[1:])
        facts = {"format": "zarr", "array": name, "files": store.identity(name)}
    return CachedImages(
        source, facts, n_frames, (height, width, channels), _image_parts(path, name, n_frames)
    )


def _image_parts(path: Path, name: str, n_frames: int) -> Iterator[np.ndarray]:
    """Yield the images chunk by chunk, uint8; nothing is opened before the first is asked for."""
    with _Store(path) as store:
        array = store.open(name)
        yield from as_uint8(f"{path}: {name}", store.parts(name, array, n_frames))


def write_zarr(path: str | Path, buffer: ReplayBuffer) -> None:
    """Write a buffer in zarr format v2 with Blosc/zstd chunks, as Diffusion Policy does.

    The store appears under its name only when it is complete.

    Args:
        path: a name that ends in ``.zip`` gives a zip, any other a directory store.
        buffer: what to write; it is validated first.

    Raises:
        InputError: the buffer is not valid or ``path`` exists already.
    """
    buffer.validate()
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists already: remove it or choose another name")
    if path.suffix == ".zip":
        with atomic_file(path) as temporary:
            temporary.unlink()  # zarr wants to create the archive itself
            store = ZipStore(temporary, mode="w")
            try:
                _write(store, buffer)
            finally:
                store.close()
    else:
        with atomic_folder(path) as folder:
            _write(LocalStore(folder), buffer)


def _write(store: LocalStore | ZipStore, buffer: ReplayBuffer) -> None:
    root = zarr.create_group(store, zarr_format=2)
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
            config={"write_empty_chunks": True},  # an absent chunk is read as a damaged store
        )
        array[...] = values


class _Store:
    """An open store; every failure of zarr below it becomes an :class:`InputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._files = ZarrFiles(self._path)
        self.array_names = self._files.array_names()
        if not self.array_names:
            raise InputError(
                f"{path}: not a zarr store (no array metadata, .zarray or zarr.json, inside); "
                "expected a replay buffer with data/<key> and meta/episode_ends"
            )
        self._store: LocalStore | ZipStore = (
            ZipStore(self._path, mode="r")
            if self._files.is_zip
            else LocalStore(self._path, read_only=True)
        )

    def __enter__(self) -> _Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.close()

    def open(self, name: str) -> zarr.Array:
        """Return an array without reading values."""
        if name not in self.array_names:
            raise InputError(
                f"{self._path}: there is no array {name}: {nearest_names(name, self.array_names)} "
                f"(the store holds: {', '.join(self.array_names)})"
            )
        try:
            return zarr.open_array(self._store, path=name, mode="r")
        except Exception as error:
            raise InputError(
                f"{self._path}: the metadata of {name} cannot be read ({_brief(error)}): the file "
                "is damaged, or of a kind that zarr 3 does not know; copy the store again"
            ) from error

    def read(self, name: str, array: zarr.Array) -> np.ndarray:
        """Return all values, C-contiguous."""
        source = f"{self._path}: {name}"
        check_codecs(array, source)
        try:
            check_chunks(array, self._files, name, source)
            return np.ascontiguousarray(array[...])
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{source}: {self._first_damaged(array)} cannot be decoded ({_brief(error)}): "
                + COPY_AGAIN
            ) from error

    def parts(self, name: str, array: zarr.Array, n_rows: int) -> Iterator[np.ndarray]:
        """Yield the first rows, a chunk's length at a time."""
        source = f"{self._path}: {name}"
        check_codecs(array, source)
        check_chunks(array, self._files, name, source)
        step = chunk_grid(array)[1][0]
        for begin in range(0, n_rows, step):
            try:
                rows = np.ascontiguousarray(array[begin : min(begin + step, n_rows)])
            except Exception as error:
                raise InputError(
                    f"{source}: rows from {begin} on cannot be decoded ({_brief(error)}): "
                    + COPY_AGAIN
                ) from error
            yield rows

    def identity(self, name: str) -> str:
        """Return a digest of where the array's files are, how large they are and how old."""
        digest = hashlib.sha256(str(self._path.resolve()).encode())
        if self._files.is_zip:
            status = self._path.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        else:
            for entry in sorted(self._files.under(name)):
                status = (self._path / name / entry).stat()
                digest.update(f"{entry} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    @staticmethod
    def _first_damaged(array: zarr.Array) -> str:
        grid, shape = chunk_grid(array)
        for coordinates in chunk_coordinates(grid):
            region = tuple(
                slice(i * n, (i + 1) * n) for i, n in zip(coordinates, shape, strict=True)
            )
            try:
                array[region]
            except Exception:
                return f"chunk {array.metadata.encode_chunk_key(coordinates)}"
        return "a chunk"


def _brief(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
