"""Download public demonstrations, checked and complete or not at all."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from lfm_policy.data.download.fetch import UnreachableError, fetch
from lfm_policy.data.download.locations import HUB_ID, REVISION, Location
from lfm_policy.errors import InputError, brief
from lfm_runtime.disk.files import atomic_folder, exists, read_line, write_text
from lfm_runtime.disk.input_files import require_file, sha256_of

_MOST_UNPACKED = 20 * 2**30
_PART_BYTES = 2**22


@dataclass(frozen=True)
class Downloaded:
    """What is there now.

    Attributes:
        path: the file, or the folder from an archive.
        size: bytes of the file or the archive; None for a folder that was there already.
        sha256: likewise.
        official: whether that checksum was known from elsewhere, and agreed; otherwise it was
            recorded at the first download and only shows later changes.
        fetched: whether anything was downloaded.
    """

    path: str
    size: int | None
    sha256: str | None
    official: bool
    fetched: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def download(
    location: Location, folder: Path, *, pause: float = 1.0, quiet: bool = True
) -> Downloaded:
    """Make sure that a dataset is in ``folder``.

    A file that is there already is checked and kept. A download that breaks off goes on where it
    ended, in this call or in a later one. Beside the file stands its checksum (``.sha256``, as
    ``sha256sum -c`` takes it).

    Args:
        location: what and where to.
        folder: the data folder.
        pause: see `lfm_policy.data.download.fetch.fetch`.
        quiet: no progress bar.

    Raises:
        InputError: it cannot be reached (the message says what to put where), the disk is too
            small, or the size or checksum is wrong.
    """
    target = folder / location.path
    file = target.with_name(location.archive) if location.archive else target
    if location.archive and exists(target):
        return Downloaded(str(target), None, None, official=False, fetched=False)
    if exists(file):
        found = _check(file, _with_recorded(location, file), official=bool(location.sha256))
        _record(file, found.sha256)
    else:
        found = _fetch(location, file, pause=pause, quiet=quiet)
    if location.archive:
        _unpack(file, target)
        if found.fetched:
            file.unlink()
        found = replace(found, path=str(target))
    return found


def address(location: Location) -> str:
    """Return the URL of a location."""
    if not location.hub_file:
        return location.url
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(HUB_ID, location.hub_file, repo_type="dataset", revision=REVISION))


def _fetch(location: Location, file: Path, *, pause: float, quiet: bool) -> Downloaded:
    url = address(location)
    part = file.with_name(file.name + ".part")
    stated = location
    try:
        if location.hub_file and location.sha256 is None:
            stated = _asked_of_hub(location, url)
        official = stated.sha256 is not None
        stated = _with_recorded(stated, file)
        _check_space(stated, file, part)
        fetch(url, part, pause=pause, quiet=quiet, title=file.name)
    except UnreachableError as error:
        kept = _size(part)
        if not kept:
            part.unlink(missing_ok=True)
        facts = f"{stated.size:,} bytes" if stated.size else ""
        facts += f"{', ' if facts else ''}SHA-256 {stated.sha256}" if stated.sha256 else ""
        raise InputError(
            f"{url} cannot be downloaded ({error})"
            + (
                f"; {kept:,} bytes are kept in {part}, run the command again to go on"
                if kept
                else ""
            )
            + f". Without a network: download it elsewhere, put it at {file.absolute()}"
            + (f" ({facts})" if facts else "")
            + " and run the command again, which checks it"
        ) from None
    try:
        found = _check(part, stated, official=official)
    except InputError:
        part.unlink()  # no attempt could go on from it
        raise
    finally:
        part.with_name(part.name + ".version").unlink(missing_ok=True)
    _record(file, found.sha256)
    os.replace(part, file)
    return replace(found, path=str(file), fetched=True)


def _asked_of_hub(location: Location, url: str) -> Location:
    """Return a location with what the hub states of its file."""
    from huggingface_hub import get_hf_file_metadata

    try:
        metadata = get_hf_file_metadata(url, timeout=30)
    # It lets through what any layer of the network below raises.
    except Exception as error:
        raise UnreachableError(brief(error)) from error
    etag = metadata.etag or ""
    # Of large files it is the SHA-256; of small ones, of which there are none here, a git hash.
    sha256 = etag if len(etag) == 64 else None
    return replace(location, size=metadata.size or location.size, sha256=sha256)


def _check(file: Path, stated: Location, *, official: bool) -> Downloaded:
    require_file(file)
    size = file.stat().st_size
    if stated.size is not None and size != stated.size:
        raise InputError(
            f"{file} has {size:,} bytes, expected {stated.size:,}: it is damaged or another file; "
            "remove it and download it again"
        )
    sha256 = sha256_of(file)
    if stated.sha256 is not None and sha256 != stated.sha256:
        raise InputError(
            f"{file} has SHA-256 {sha256}, expected {stated.sha256}"
            f"{'' if official else ' as recorded at its first download'}: it is damaged or another "
            "file; remove it and download it again"
        )
    return Downloaded(str(file), size, sha256, official=official, fetched=False)


def _check_space(stated: Location, file: Path, part: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    missing = (stated.size or 0) - _size(part)
    free = shutil.disk_usage(file.parent).free
    if missing > free:
        raise InputError(
            f"{file} needs {missing:,} bytes more, but only {free:,} are free: choose another "
            "folder with --output"
        )


def _size(part: Path) -> int:
    return part.lstat().st_size if exists(part) else 0


def _with_recorded(location: Location, file: Path) -> Location:
    return location if location.sha256 else replace(location, sha256=_recorded(file))


def _recorded(file: Path) -> str | None:
    """Return the checksum that was written at the first download; None: there was none."""
    digest = read_line(file.with_name(file.name + ".sha256")).split(" ")[0]
    return digest if len(digest) == 64 else None


def _record(file: Path, sha256: str | None) -> None:
    write_text(file.with_name(file.name + ".sha256"), f"{sha256}  {file.name}\n")


def _unpack(archive: Path, target: Path) -> None:
    """Take the folder called as ``target`` out of an archive, wherever in it it is."""
    try:
        with zipfile.ZipFile(archive) as file, atomic_folder(target) as temporary:
            members = []
            for info in file.infolist():
                parts = PurePosixPath(info.filename).parts
                if target.name in parts and not info.is_dir():
                    below = parts[parts.index(target.name) + 1 :]
                    if not below or ".." in below:
                        raise InputError(f"{archive}: holds a file '{info.filename:.100}'")
                    members.append((info, temporary.joinpath(*below)))
            if not members:
                raise InputError(f"{archive}: holds no folder {target.name}; remove it")
            unpacked = sum(info.file_size for info, _ in members)
            if unpacked > _MOST_UNPACKED:
                raise InputError(f"{archive}: would unpack to {unpacked:,} bytes; remove it")
            for info, path in members:
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open(info) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, _PART_BYTES)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{archive} cannot be unpacked ({str(error)[:200]}): remove it and download it again"
        ) from None
