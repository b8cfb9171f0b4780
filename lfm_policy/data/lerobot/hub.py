"""The folder of a LeRobot dataset: a local one, or one that is downloaded from the hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lfm_policy.data.lerobot.files import brief
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists

_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_META = ("meta/info.json", "meta/episodes.jsonl", "meta/episodes/*")
_MAX_PATTERNS = 200


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
        path: a local folder, or ``owner/name`` on the hub where there is no such folder.
        revision: branch, tag or commit on the hub; its main branch when None.

    Raises:
        InputError: there is neither, or it cannot be downloaded.
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
    if not _HUB_ID.fullmatch(path) or ".." in path:
        raise InputError(
            f"{path}: there is no such folder; expected the folder of a LeRobot dataset, which "
            "holds meta/info.json, or owner/name of one on the hub"
        )
    return DatasetFolder(_download(path, revision, _META), path, revision)


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
        raise InputError(
            f"{hub_id}: there is no such folder, and it cannot be downloaded from the hub "
            f"({brief(error)}): check the name{' and the revision' if revision else ''}, or where "
            f"there is a network run 'hf download {hub_id} --repo-type dataset{at} --local-dir "
            "FOLDER' and set dataset.path to FOLDER"
        ) from error
    return Path(folder)
