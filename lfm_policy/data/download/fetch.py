"""Fetch one file over HTTP: in parts where the connection breaks, today or tomorrow."""

from __future__ import annotations

import fcntl
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lfm_policy.errors import InputError
from lfm_policy.version import __version__
from lfm_runtime.disk.files import open_unlinked, read_line, write_text

ATTEMPTS = 4
"""Times in a row that a connection may bring nothing."""

_PART_BYTES = 2**20
_TIMEOUT = 30.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class UnreachableError(Exception):
    """A server cannot be reached, or breaks off again and again."""


def fetch(url: str, part: Path, *, pause: float = 1.0, quiet: bool = True, title: str = "") -> None:
    """Complete a partial file.

    Beside ``part`` stands, in a file with ``.version`` added to its name, by which the server says
    that its file is still the same one; where it is not, or the server does not say it, or does not
    give parts, the file is fetched from its beginning.

    Args:
        url: http or https.
        part: what is there already; it stays when fetching fails.
        pause: seconds before the second attempt; doubled before every further one.
        quiet: no progress bar.
        title: for the progress bar.

    Raises:
        UnreachableError: `ATTEMPTS` connections in a row brought nothing.
        InputError: the server refuses, another process is fetching the file, or there is a link or
            something else than a file at ``part``.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    with (
        open_unlinked(part) as file,
        tqdm(desc=title, unit="B", unit_scale=True, disable=quiet) as bar,
    ):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{part}: another process is downloading this file") from None
        failures = 0
        while True:
            before = file.seek(0, 2)
            error = _attempt(url, file, part, bar)
            if error is None:
                return
            failures = 0 if file.seek(0, 2) > before else failures + 1
            if failures == ATTEMPTS:
                raise UnreachableError(error)
            time.sleep(pause * 2 ** max(0, failures - 1))


def _attempt(url: str, file: Any, part: Path, bar: tqdm) -> str | None:
    """Fetch what is missing; return why it is not complete, None if it is."""
    version = part.with_name(part.name + ".version")
    done = file.seek(0, 2)
    known = read_line(version)
    if done and not known:  # nobody can say that it is the beginning of the same file
        done = _restart(file)
    headers = {"User-Agent": f"lfm-policy/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": known}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after `done`, or a file that has become shorter
            total = _range(error.headers.get("Content-Range"))[1]
            if total == done:
                return None
            _restart(file)
            return "the file on the server is another one now"
        if error.code in _AGAIN:
            return f"the server answered {error.code} {error.reason}"
        raise InputError(f"{url}: the server answered {error.code} {error.reason}") from None
    except _BROKEN as error:
        return _reason(error)
    with response:
        start, total = _range(response.headers.get("Content-Range"))
        if response.status != 206 or start != done:
            done = _restart(file)
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
        write_text(version, _version(response.headers))
        bar.total, bar.n = total, done
        bar.refresh()
        # What is written raises neither: that the disk is full is no matter of the connection.
        try:
            while values := response.read(_PART_BYTES):
                done += _keep(values, file, bar)
        except http.client.IncompleteRead as error:
            _keep(error.partial, file, bar)
            return "the connection broke off"
        except _BROKEN as error:
            return _reason(error)
        file.flush()
    if total is not None and done < total:
        return f"the connection ended after {done:,} of {total:,} bytes"
    return None


def _keep(values: bytes, file: Any, bar: tqdm) -> int:
    file.write(values)
    bar.update(len(values))
    return len(values)


def _restart(file: Any) -> int:
    file.seek(0)
    file.truncate()
    return 0


def _version(headers: Any) -> str:
    """Return what `If-Range` takes: a strong ETag, or else a date."""
    etag = str(headers.get("ETag") or "")
    return etag if etag.startswith('"') else str(headers.get("Last-Modified") or "")


def _range(text: str | None) -> tuple[int | None, int | None]:
    """Parse ``bytes 5-9/10`` or ``bytes */10``: first byte and size."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", text or "")
    if match is None:
        return None, None
    return (int(match[1]) if match[1] else None), int(match[2])


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(error).__name__}: {str(reason)[:200]}"
