"""Download public demonstrations, checked and complete or not at all."""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import time
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from lfm_policy.data.download.locations import HUB_ID, REVISION, Location
from lfm_policy.errors import InputError, brief
from lfm_policy.version import __version__
from lfm_runtime.disk.files import atomic_folder, exists, open_unlinked, read_line, write_text
from lfm_runtime.disk.input_files import require_file, sha256_of
from lfm_runtime.disk.leftovers import only_writer

_MOST_UNPACKED = 20 * 2**30
_PART_BYTES = 2**22
_TIMEOUT = 30.0
_WAITS = (1, 2, 4)
"""Seconds before further attempts, of which none may bring anything before one gives up."""
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_BAR = "huggingface_hub.http_get"


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


def download(location: Location, folder: Path, *, quiet: bool = True) -> Downloaded:
    """Make sure that a dataset is in ``folder``.

    A file that is there already is checked and kept. A download that breaks off goes on where it
    ended, in this call or in a later one. Beside the file stands its checksum (``.sha256``, as
    ``sha256sum -c`` takes it).

    Args:
        location: what and where to.
        folder: the data folder.
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
        found = _fetch(location, file, quiet=quiet)
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


def _fetch(location: Location, file: Path, *, quiet: bool) -> Downloaded:
    """Complete ``file.part``, check it and give it its name."""
    part = file.with_name(file.name + ".part")
    version = part.with_name(part.name + ".version")
    with only_writer(file, "download"), open_unlinked(part) as opened:
        try:
            stated = _complete(location, file, opened, version, quiet=quiet)
            official = stated.sha256 is not None
            try:
                found = _check(part, _with_recorded(stated, file), official=official)
            except InputError:
                opened.truncate(0)  # no attempt could go on from it
                raise
        except BaseException:
            if not opened.seek(0, 2):
                part.unlink()
                version.unlink(missing_ok=True)
            raise
        _record(file, found.sha256)
        os.replace(part, file)
        version.unlink(missing_ok=True)
    return replace(found, path=str(file), fetched=True)


def _complete(
    location: Location, file: Path, opened: BinaryIO, version: Path, *, quiet: bool
) -> Location:
    """Download what a partial file lacks; return the location with what its server states."""
    # here and not above: a file that is there already has no use for it
    from huggingface_hub import utils

    (utils.disable_progress_bars if quiet else utils.enable_progress_bars)(_BAR)
    url, waits = address(location), [*_WAITS]
    while True:
        before = opened.seek(0, 2)
        try:
            return _attempt(location, url, file, opened, version)
        except InputError:
            raise
        # It lets through what any layer of the network below raises.
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status == 416:  # the file on the server has become shorter
                opened.truncate(0)
            elif status is not None and status not in _AGAIN:
                raise InputError(f"{url}: the server answered {_answer(status)}") from None
            if opened.seek(0, 2) > before:
                waits = [*_WAITS]
            if not waits or getattr(error, "errno", None) == errno.ENOSPC:
                reason = f"the server answered {_answer(status)}" if status else brief(error)
                raise _unreachable(location, file, reason, opened.seek(0, 2)) from error
            time.sleep(waits.pop(0))


def _attempt(location: Location, url: str, file: Path, opened: BinaryIO, version: Path) -> Location:
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import http_get

    # No token: not every location is on the hub.
    metadata = get_hf_file_metadata(url, token=False, timeout=_TIMEOUT)
    etag = metadata.etag or ""
    # There it is the SHA-256 of large files; of small ones, of which there are none, a git hash.
    sha256 = etag if location.hub_file and len(etag) == 64 else None
    stated = replace(
        location, size=location.size or metadata.size, sha256=location.sha256 or sha256
    )
    if not etag or read_line(version) != etag:  # of another file, or nobody can say
        opened.truncate(0)
        write_text(version, etag)
    done = opened.seek(0, 2)
    missing, free = (stated.size or 0) - done, shutil.disk_usage(file.parent).free
    if missing > free:
        raise InputError(
            f"{file} needs {missing:,} bytes more, but only {free:,} are free: choose another "
            "folder with --output"
        )
    if done != metadata.size:
        headers = {"User-Agent": f"lfm-policy/{__version__}", "Accept-Encoding": "identity"}
        http_get(url, opened, resume_size=done, headers=headers, displayed_filename=file.name)
        opened.flush()
    return stated


def _answer(status: int) -> str:
    return f"{status} {http.client.responses.get(status, '')}".strip()


def _unreachable(location: Location, file: Path, reason: str, n_kept: int) -> InputError:
    sha256 = _with_recorded(location, file).sha256
    facts = [f"{location.size:,} bytes"] if location.size else []
    facts += [f"SHA-256 {sha256}"] if sha256 else []
    kept = f"; {n_kept:,} bytes are kept in {file}.part, run the command again to go on"
    return InputError(
        f"{address(location)} cannot be downloaded ({reason}){kept if n_kept else ''}. Without a "
        f"network: download it elsewhere, put it at {file.absolute()}"
        + (f" ({', '.join(facts)})" if facts else "")
        + " and run the command again, which checks it"
    )


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
