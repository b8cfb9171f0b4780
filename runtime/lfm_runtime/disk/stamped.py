"""JSON files that say what they are, in which version, and whether they are whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lfm_runtime.disk.files import write_json
from lfm_runtime.disk.input_files import content_digest, read_json_object
from lfm_runtime.errors import InputError


def write_stamped(path: Path, content: Mapping[str, Any]) -> None:
    """Write content, which has ``format`` and ``format_version``, with its SHA-256."""
    write_json(path, {**content, "sha256": content_digest(content)})


def read_stamped(
    path: Path,
    *,
    format: str,
    version: int,
    reader: str,
    reader_version: str,
    copied: str,
    **bounds: int,
) -> tuple[dict[str, Any], str]:
    """Return the content without its SHA-256, and that.

    Args:
        path: of the file.
        format: that it has to be of.
        version: newest version of the format that is read.
        reader: distribution that reads it, for messages.
        reader_version: of that.
        copied: what to copy again where it is damaged, such as ``the folder``.
        **bounds: see `read_json_object`.

    Raises:
        InputError: it is of another format, of a newer version, damaged, or edited.
    """
    content = read_json_object(path, **bounds)
    if content.get("format") != format:
        found = str(content.get("format"))[:100]
        raise InputError(f"{path}: format: found {found!r}, expected '{format}'")
    given = content.get("format_version")
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise InputError(f"{path}: format_version: found {str(given)[:100]!r}, expected a number")
    if given > version:
        raise InputError(
            f"{path}: format_version is {given}, this version of {reader} ({reader_version}) reads "
            f"up to {version}: upgrade {reader}"
        )
    stated = content.pop("sha256", None)
    try:
        digest = content_digest(content)
    except ValueError:
        raise InputError(f"{path}: contains NaN or infinity") from None
    if stated != digest:
        raise InputError(
            f"{path}: its content does not match its checksum: it is damaged or was edited; copy "
            f"{copied} again"
        )
    return content, digest
