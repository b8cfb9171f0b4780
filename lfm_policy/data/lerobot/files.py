"""Where the files of a LeRobot dataset are: path templates that nobody vouches for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import is_file
from lfm_runtime.registry import nearest_names

INFO = Path("meta") / "info.json"
"""The file of every LeRobot dataset that says what is in it."""

V1_INFO = Path("meta_data") / "info.json"
"""The same in version 1, which is not read: the message says what converts it."""

_FIELD = re.compile(r"\{([^{}:]*)(?::0([0-9]{1,2})d)?\}")


@dataclass(frozen=True)
class PathTemplate:
    """A relative path with fields in braces, such as ``chunk-{chunk_index:03d}``.

    It comes from a file that anybody may have written, so it is no format string: a field is a
    name out of a fixed list and perhaps a number of digits, nothing else.

    Attributes:
        text: as it is written.
        source: file and key, for messages.
        fields: the names that may occur.
    """

    text: str
    source: str
    fields: Sequence[str]

    def __post_init__(self) -> None:
        """Check the template.

        Raises:
            InputError: it has unknown fields or braces, or leads out of the dataset.
        """
        for name, _ in _FIELD.findall(self.text):
            if name not in self.fields:
                raise InputError(
                    f"{self.source} is '{self.text}': unknown field '{name}': "
                    + similar_names(name, self.fields)
                )
        # What stands for a field cannot change whether the rest is a path inside.
        rest = _FIELD.sub("0", self.text)
        if "{" in rest or "}" in rest:
            raise InputError(
                f"{self.source} is '{self.text}': expected a path with fields such as "
                + " and ".join(f"{{{name}}}" for name in self.fields)
                + ", at most with a number of digits such as :03d"
            )
        self._check_inside(rest)

    def path(self, root: Path, values: Mapping[str, int | str]) -> Path:
        """Return the path below ``root``, with ``values`` in place of the fields.

        Raises:
            InputError: with these values it leads out of the dataset.
        """

        def text_of(match: re.Match[str]) -> str:
            value, digits = values[match[1]], int(match[2] or 0)
            return f"{value:0{digits}d}" if isinstance(value, int) else value

        relative = _FIELD.sub(text_of, self.text)
        self._check_inside(relative)
        return root / relative

    def _check_inside(self, relative: str) -> None:
        # Of the names alone: in a download of the hub every file is a link to somewhere else.
        path = PurePosixPath(relative)
        if (
            path.is_absolute()
            or ".." in path.parts
            or not path.parts
            or "\\" in relative
            or "\0" in relative
            or PureWindowsPath(relative).drive
        ):
            raise InputError(
                f"{self.source} is '{self.text}', which gives the path '{relative}': expected a "
                "path inside the dataset's folder, without '..'"
            )


def require_file(path: Path, reason: str) -> None:
    """Check that a file is there.

    Raises:
        InputError: it is not; the message ends with ``reason``, which says who needs it.
    """
    if not is_file(path):
        raise InputError(
            f"{path}: there is no such file, but {reason}; download or copy the dataset again"
        )


def files_digest(paths: Iterable[Path]) -> str:
    """Return a SHA-256 of where files are, how large they are and how old."""
    digest = hashlib.sha256()
    for path in paths:
        resolved = path.resolve()
        status = resolved.stat()
        digest.update(f"{resolved} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def similar_names(name: str, known: Sequence[str]) -> str:
    """Return what ``name`` might have been meant to be, and what there is, in bounded length."""
    hint, listing = nearest_names(name, list(known)), ", ".join(known)
    text = hint if hint.startswith("known") else f"{hint} (known: {listing})"
    return text if len(text) <= 1000 else text[:1000] + " ..."


def brief(error: BaseException) -> str:
    """Return kind and first line of an error of a library, at most 200 characters of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
