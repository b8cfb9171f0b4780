"""The files of a zarr store, a folder or a zip, that somebody else may have written.

Everything that is read of a store is read here: regular files inside the store, never a pipe, a
device or a link that leads out of it; of a zip never more than its directory announces.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lfm_policy.data.download.locations import where_to_get
from lfm_policy.errors import InputError, NoDatasetError
from lfm_runtime.disk.input_files import open_file

METADATA_NAMES = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")
"""Files that hold no values."""

MAXIMUM_METADATA_BYTES = 4 * 2**20
MAXIMUM_ZIP_DIRECTORY_BYTES = 128 * 2**20
"""Enough for more than a million files."""

_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others of `zipfile` unpack as much as a file asks for."""

_ENCRYPTED = 0x1

_LEADS_OUT = (
    "is a link that leads out of the store; copy the store with what the links lead to (cp -rL)"
)


@dataclass(frozen=True)
class StoredFile:
    """One file of a store.

    Attributes:
        stored: bytes on disk.
        unpacked: bytes read from it: more than stored inside a compressed zip.
        problem: why it is not read, such as ``"is not a regular file"``; empty if it is.
    """

    stored: int
    unpacked: int
    problem: str = ""


class ZarrFiles(ABC):
    """Lists and reads the files of a store; names are relative, with forward slashes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Yield the names of all files."""

    @abstractmethod
    def find(self, name: str) -> StoredFile | None:
        """Return what is known of a file, None if it is absent."""

    @abstractmethod
    def under(self, folder: str) -> dict[str, StoredFile]:
        """Return the files of one array by their name relative to it."""

    @abstractmethod
    def identity(self, folder: str) -> str:
        """Return a digest of where an array's files are, how large they are and how old."""

    @abstractmethod
    def _read(self, name: str, begin: int, size: int) -> bytes:
        """Return up to ``size`` bytes of a file that has no problem.

        Raises:
            Exception: of whatever kind the library has that reads damaged files.
        """

    def close(self) -> None:  # noqa: B027
        """Close what is open."""

    def read(self, name: str, begin: int = 0, end: int | None = None) -> bytes | None:
        """Return a file's bytes from ``begin`` to ``end``, None if it is absent.

        Raises:
            InputError: it is no regular file inside the store, or larger than any metadata.
            Exception: it is damaged, of whatever kind the library has that reads it.
        """
        file = self.find(name)
        if file is None:
            return None
        if file.problem:
            raise InputError(f"{self.path}: {name} {file.problem}")
        if name.rpartition("/")[2] in METADATA_NAMES and file.unpacked > MAXIMUM_METADATA_BYTES:
            raise InputError(
                f"{self.path}: {name} has {file.unpacked:,} bytes, expected metadata of at most "
                f"{MAXIMUM_METADATA_BYTES:,}"
            )
        stop = file.unpacked if end is None else min(end, file.unpacked)
        return self._read(name, begin, max(0, stop - begin))

    def array_names(self) -> tuple[str, ...]:
        """Return the paths inside the store that have the metadata of an array, sorted."""
        found = set()
        for entry in self.names():
            folder, _, name = entry.rpartition("/")
            is_array = name == ".zarray" or (name == "zarr.json" and not self._is_group(entry))
            if folder and is_array:
                found.add(folder)
        return tuple(sorted(found))

    def _is_group(self, entry: str) -> bool:
        """Whether a v3 ``zarr.json`` is that of a group; what does not parse counts as array."""
        try:
            metadata = json.loads(self.read(entry) or b"")
        except Exception:  # damaged in whatever way: opening it as an array says how
            return False
        return isinstance(metadata, dict) and metadata.get("node_type") == "group"


def open_zarr_files(path: Path) -> ZarrFiles:
    """Return the files of a directory store or zip.

    Raises:
        NoDatasetError: nothing is there.
        InputError: a file that is no zip.
    """
    if path.is_dir():
        return _FolderFiles(path)
    if not path.exists():
        raise NoDatasetError(
            f"{path}: no such file or folder; expected a zarr replay buffer{where_to_get(path)}"
        )
    return _ZipFiles(path)


class _FolderFiles(ZarrFiles):
    """The files of a directory store."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._inside = [path.resolve()]
        # In the cache of the Hugging Face hub files are links to a folder beside the snapshots.
        for parent in path.absolute().parents:
            blobs = parent.parent / "blobs"
            if parent.name == "snapshots" and not blobs.is_symlink():
                self._inside.append(blobs.resolve())

    def names(self) -> Iterator[str]:
        return _walk(self.path)

    def find(self, name: str) -> StoredFile | None:
        path = self.path / name
        try:
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                status = path.stat()  # fails for circles
                real = path.resolve()
                if not any(real.is_relative_to(folder) for folder in self._inside):
                    return StoredFile(0, 0, _LEADS_OUT)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return StoredFile(0, 0, "is not a regular file")
        return StoredFile(status.st_size, status.st_size)

    def under(self, folder: str) -> dict[str, StoredFile]:
        found = {entry: self.find(f"{folder}/{entry}") for entry in _walk(self.path / folder)}
        return {entry: file for entry, file in found.items() if file is not None}

    def identity(self, folder: str) -> str:
        digest = hashlib.sha256(str(self.path.resolve()).encode())
        for entry in sorted(_walk(self.path / folder)):
            try:
                status = (self.path / folder / entry).stat()
            except OSError:  # a link that leads nowhere
                continue
            digest.update(f"{entry} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _read(self, name: str, begin: int, size: int) -> bytes:
        with open_file(self.path / name) as file:
            file.seek(begin)
            return file.read(size)


class _ZipFiles(ZarrFiles):
    """The files of a zip; of files of the same name the last one counts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = open_file(path)
        directory = _BoundedReads(self._file, path)
        try:
            self._zip = zipfile.ZipFile(cast(BinaryIO, directory))
        except Exception as error:  # zipfile raises what it likes on damaged files
            self._file.close()
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: neither a folder nor a readable zip ({error}); expected a zarr directory "
                "store or .zarr.zip. The file may be truncated (copy or download it again) or of "
                "another format"
            ) from error
        directory.most = None
        self._lock = threading.Lock()
        entries = self._zip.infolist()
        claimed = sum(entry.compress_size for entry in entries)
        if claimed > os.fstat(self._file.fileno()).st_size:
            self.close()
            raise InputError(
                f"{path}: its entries claim {claimed:,} bytes, more than the whole file has: they "
                "overlap, which no program that packs a store does"
            )
        # By name: a later entry replaces an earlier one, as where a store was written again.
        self._entries = {entry.filename: entry for entry in entries if _is_plain(entry.filename)}
        self._files = {name: _described(entry) for name, entry in self._entries.items()}

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def names(self) -> Iterator[str]:
        return iter(self._files)

    def find(self, name: str) -> StoredFile | None:
        return self._files.get(name)

    def under(self, folder: str) -> dict[str, StoredFile]:
        prefix = f"{folder}/"
        inside = (item for item in self._files.items() if item[0].startswith(prefix))
        return {name.removeprefix(prefix): file for name, file in inside}

    def identity(self, folder: str) -> str:
        status = self.path.stat()
        digest = hashlib.sha256(str(self.path.resolve()).encode())
        digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()

    def _read(self, name: str, begin: int, size: int) -> bytes:
        with self._lock, self._zip.open(self._entries[name]) as member:
            if begin:
                member.seek(begin)
            return member.read(size)


class _BoundedReads:
    """A file of which no more than ``most`` bytes are read at once, as long as that is set.

    `zipfile` reads a zip's directory in one piece, of the size that the zip announces, and needs
    several times as much memory for it.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.most: int | None = MAXIMUM_ZIP_DIRECTORY_BYTES
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise InputError(
                f"{self._path}: its list of files takes {size:,} bytes, expected at most "
                f"{self.most:,}; use a directory store, or larger chunks"
            )
        return self._file.read(size)


def _described(entry: zipfile.ZipInfo) -> StoredFile:
    problem = ""
    if entry.flag_bits & _ENCRYPTED:
        problem = "is encrypted; pack the store without a password"
    elif entry.compress_type not in _ZIP_METHODS:
        problem = (
            f"is packed by method {entry.compress_type} of zip files, which is not read here; "
            "pack the store without compression (zip -0)"
        )
    return StoredFile(entry.compress_size, entry.file_size, problem)


def _walk(folder: Path) -> Iterator[str]:
    """Yield what is not a folder, in all folders that are no links."""
    for root, _, names in os.walk(folder):
        relative = Path(root).relative_to(folder).as_posix()
        for name in names:
            entry = name if relative == "." else f"{relative}/{name}"
            if _is_plain(entry):
                yield entry


def _is_plain(name: str) -> bool:
    """Whether a name stays inside the store and can be printed."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not {"", ".", ".."}.intersection(parts)
