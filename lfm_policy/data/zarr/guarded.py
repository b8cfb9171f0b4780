"""One array's files as a store of zarr's, so that zarr opens nothing by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import cached_property

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from lfm_policy.data.zarr.files import METADATA_NAMES, StoredFile, ZarrFiles


class GuardedArray(Store):
    """A store for reading that holds one array, at its root.

    Only what `ZarrFiles` lists exists here, so what was checked is what is read.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, files: ZarrFiles, name: str) -> None:
        super().__init__(read_only=True)
        self._files = files
        self.name = name

    @cached_property
    def listed(self) -> dict[str, StoredFile]:
        """The array's files by their names."""
        return self._files.under(self.name)

    def read(self, key: str, begin: int = 0, end: int | None = None) -> bytes | None:
        """Return a file's bytes, None if it is absent; see `ZarrFiles.read`."""
        is_there = key in METADATA_NAMES or key in self.listed
        return self._files.read(f"{self.name}/{key}", begin, end) if is_there else None

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a file, or a part of it."""
        begin, end = 0, None
        if isinstance(byte_range, RangeByteRequest):
            begin, end = byte_range.start, byte_range.end
        elif isinstance(byte_range, OffsetByteRequest):
            begin = byte_range.offset
        elif isinstance(byte_range, SuffixByteRequest):
            file = self.listed.get(key)
            begin = max(0, file.unpacked - byte_range.suffix) if file else 0
        content = self.read(key, begin, end)
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is a file of this name."""
        return key in self.listed

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: this store is for reading."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse: this store is for reading."""
        self._check_writable()

    async def list_prefix(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the names of files that begin with ``prefix``."""
        for key in self.listed:
            if key.startswith(prefix):
                yield key

    list = list_dir = list_prefix  # zarr asks for them, and has no need to list one array's files
