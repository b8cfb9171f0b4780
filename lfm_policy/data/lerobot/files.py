"""Where the files of a LeRobot dataset are: a folder or the hub, and path templates inside it."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from lfm_policy.errors import InputError, NoDatasetError, brief
from lfm_runtime.disk.files import exists, is_file
from lfm_runtime.registry import nearest_names

HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_META = ("meta/info.json", "meta/episodes.jsonl", "meta/episodes/*")
_MAX_PATTERNS = 200
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


@dataclass(frozen=True)
class DatasetFolder:
    """A folder whose files may still have to be downloaded.

    Attributes:
        root: the folder; ``meta/`` is there where the dataset has one.
        hub_id: ``owner/name`` on the hub; None for a local folder.
        revision: which revision of it; None for its main branch.
    """

    root: Path
    hub_id: str | None = None
    revision: str | None = None

    def fetch(self, paths: Sequence[Path]) -> None:
        """Download files that are still missing; of a local folder there are none to be had.

        Raises:
            InputError: the hub cannot be reached.
        """
        if self.hub_id is None:
            return
        names = [path.relative_to(self.root).as_posix() for path in paths]
        # Every pattern is compared with every file of the dataset.
        patterns = (
            [glob.escape(name) for name in names]
            if len(names) <= _MAX_PATTERNS
            else sorted({f"{glob.escape(name.split('/')[0])}/*" for name in names})
        )
        # The commit that meta/ is of: somebody may have changed the branch since.
        commit = self.root.name if re.fullmatch("[0-9a-f]{40}", self.root.name) else self.revision
        _download(self.hub_id, commit, patterns)


def open_dataset(path: str, revision: str | None) -> DatasetFolder:
    """Return the folder that an option names, with ``meta/`` downloaded.

    Args:
        path: a local folder; or, where there is none, ``owner/name`` of a dataset that LeRobot
            recorded on this machine, or of one on the hub.
        revision: branch, tag or commit on the hub; its main branch when None.

    Raises:
        NoDatasetError: there is neither, or it cannot be downloaded.
        InputError: a file, or a revision of a local folder.
    """
    folder = Path(path).expanduser()
    if exists(folder):
        if not folder.is_dir():
            raise InputError(
                f"{path} is a file; expected the folder of a LeRobot dataset, which holds "
                "meta/info.json"
            )
        if revision is not None:
            raise InputError(
                f"dataset.revision is '{revision}', but {path} is a local folder: a revision is "
                "for a dataset on the hub; leave it out"
            )
        return DatasetFolder(folder)
    if not HUB_ID.fullmatch(path) or ".." in path:
        raise NoDatasetError(
            f"{path}: there is no such folder; expected the folder of a LeRobot dataset, which "
            "holds meta/info.json, or owner/name of one on the hub"
        )
    recorded = _lerobot_home() / path
    if revision is None and is_file(recorded / INFO):
        return DatasetFolder(recorded)
    return DatasetFolder(_download(path, revision, _META), path, revision)


def _lerobot_home() -> Path:
    """Return the folder in which LeRobot keeps what it records, as it finds it itself."""
    from huggingface_hub.constants import HF_HOME

    default = Path(HF_HOME) / "lerobot"
    return Path(os.environ.get("HF_LEROBOT_HOME", default)).expanduser()


def _download(hub_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    # here and not above: a local dataset has no use for it
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub_id, repo_type="dataset", revision=revision, allow_patterns=list(patterns)
        )
    # It lets through what any layer of the network below raises.
    except Exception as error:
        at = f" --revision {revision}" if revision else ""
        raise NoDatasetError(
            f"{hub_id}: there is no such folder, and it cannot be downloaded from the hub "
            f"({brief(error)}): check the name{' and the revision' if revision else ''}, or where "
            f"there is a network run 'hf download {hub_id} --repo-type dataset{at} --local-dir "
            "FOLDER' and set dataset.path to FOLDER"
        ) from error
    return Path(folder)
