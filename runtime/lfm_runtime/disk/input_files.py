"""Files that somebody else may have written: regular, of bounded size, and whole."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from lfm_runtime.disk.files import exists, is_file
from lfm_runtime.disk.plain import MAXIMUM_VALUES, plain_options
from lfm_runtime.errors import InputError

MAXIMUM_JSON_BYTES = 1_000_000


def require_file(path: Path, *, maximum_bytes: int | None = None) -> None:
    """Check that a path is a regular file (not a folder, a pipe or a device) and its size.

    Raises:
        InputError: it is not, or larger than ``maximum_bytes``.
    """
    if not is_file(path):
        found = "something that is not a regular file" if exists(path) else "nothing"
        raise InputError(f"{path}: expected a file, found {found}")
    if maximum_bytes is not None and path.stat().st_size > maximum_bytes:
        raise InputError(
            f"{path}: has {path.stat().st_size:,} bytes, expected at most {maximum_bytes:,}"
        )


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Never waits: a pipe that nobody writes to would, for ever. The file is looked at before it is
    opened, because opening a device may do something, and again when it is open, because another
    one may have taken its place.

    Raises:
        InputError: it is missing, is not a regular file or cannot be opened.
    """
    require_file(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: expected a file, found something that is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, maximum_bytes: int) -> bytes:
    """Return the content of a regular file that has at most so many bytes.

    Raises:
        InputError: it is missing, no regular file, too large, or cannot be read.
    """
    try:
        with open_file(path) as file:
            content = file.read(maximum_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(content) > maximum_bytes:
        raise InputError(f"{path}: has more than {maximum_bytes:,} bytes, far more than expected")
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text.

    Raises:
        InputError: the file is missing, is not a regular file or cannot be read.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON content, independent of spacing and order of keys.

    Raises:
        ValueError: it contains NaN or infinity.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json_object(
    path: Path, *, maximum_bytes: int = MAXIMUM_JSON_BYTES, maximum_values: int = MAXIMUM_VALUES
) -> dict[str, Any]:
    """Read a JSON object of bounded size, depth and texts.

    Raises:
        InputError: missing, too large, no JSON object, or outside the bounds of `plain_options`.
    """
    text = read_bounded(path, maximum_bytes)
    try:
        content = json.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return plain_options(content, str(path), maximum_values=maximum_values)
