"""Files that somebody else may have written: regular, of bounded size, and whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lfm_runtime.errors import InputError
from lfm_runtime.files import exists, is_file
from lfm_runtime.plain import MAXIMUM_VALUES, plain_options

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


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text.

    Raises:
        InputError: the file is missing, is not a regular file or cannot be read.
    """
    require_file(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return digest.hexdigest()


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON content, independent of spacing and order of keys.

    Raises:
        ValueError: it contains NaN or infinity.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json_object(
    path: Path,
    *,
    maximum_bytes: int = MAXIMUM_JSON_BYTES,
    maximum_values: int = MAXIMUM_VALUES,
) -> dict[str, Any]:
    """Read a JSON object of bounded size, depth and texts.

    Raises:
        InputError: missing, too large, no JSON object, or outside the bounds of `plain_options`.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            text = file.read(maximum_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(text) > maximum_bytes:
        raise InputError(f"{path}: has more than {maximum_bytes:,} bytes, far more than expected")
    try:
        content = json.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return plain_options(content, str(path), maximum_values=maximum_values)
