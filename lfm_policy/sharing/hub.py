"""Policies on the Hugging Face hub: their names, and downloads; light to import.

What comes from there is read as any checkpoint is: with bounds, against its checksums, and without
unpickling or importing anything. Downloads are kept in the cache of huggingface_hub and found
there again, also without a network or with ``HF_HUB_OFFLINE=1``. Whoever has to log in does so with
``hf auth login`` or the variable ``HF_TOKEN``; no token is read or written here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from lfm_policy.errors import InputError, brief
from lfm_runtime.disk.input_files import read_json_object

SCHEME = "hf://"
"""Before a name that is of the hub even where there is a folder called so."""

_NAME = re.compile(r"(hf://)?([A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
_LOG_IN = "if it is private, log in with `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True)
class HubName:
    """What ``user/name@revision`` says.

    Attributes:
        repo: user or organisation, and name.
        revision: branch, tag or commit; None: the main branch.
        explicit: whether it begins with `SCHEME`, so that it can mean nothing else.
    """

    repo: str
    revision: str | None = None
    explicit: bool = False

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def hub_name(text: str) -> HubName | None:
    """Return what a name on the hub says; None for what cannot be one."""
    found = _NAME.fullmatch(text)
    return None if found is None else HubName(found[2], found[3], bool(found[1]))


def download(name: HubName, files: Sequence[str], *, format: str, otherwise: str = "") -> Path:
    """Return the folder with files of a repository, downloaded where the cache lacks them.

    The first file is looked at before the others, which may be large, are asked for; all are of
    the same commit.

    Args:
        name: of the repository.
        files: what is needed of it; the first is a JSON object with the key ``format``.
        format: what it has to say there.
        otherwise: what the name was taken for before, for messages.

    Raises:
        InputError: there is no such repository or revision, it is not open to this user, holds
            something else, or can neither be reached nor found in the cache.
    """
    revision = name.revision
    for n, file in enumerate(files):
        with hub_errors(name, file=file, otherwise=otherwise):
            path = kept_file(name, file, revision)
        if n == 0:
            if (found := read_json_object(path).get("format")) != format:
                raise InputError(
                    f"{name} on the hub is no policy of lfm-policy: format of its {file} is "
                    f"{str(found)[:100]!r}, expected '{format}'"
                )
            revision = path.parent.name  # the commit, whatever is pushed meanwhile
    return path.parent


def kept_file(name: HubName, file: str, revision: str | None) -> Path:
    """Return a file of a repository, downloaded where the cache lacks it and the hub is in reach.

    Raises:
        Exception: what `hub_errors` explains.
    """
    from huggingface_hub import hf_hub_download

    only_kept = bool(why_out_of_reach())
    return Path(hf_hub_download(name.repo, file, revision=revision, local_files_only=only_kept))


def why_out_of_reach() -> str:
    """Return why the hub cannot be reached where its address is not even known; else nothing.

    Without a network huggingface_hub asks six times, which takes half a minute: too long for
    whoever has misspelt the name of a folder.
    """
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if address.scheme in getproxies():
        return ""  # the proxy knows
    try:
        socket.getaddrinfo(address.hostname, None)
    except OSError as error:
        return f"{address.hostname}: {error.strerror or error}"
    return ""


@contextmanager
def hub_errors(name: HubName, *, file: str = "", otherwise: str = "") -> Iterator[None]:
    """Say what to do about what huggingface_hub raises."""
    from huggingface_hub import constants, errors

    address = f"{constants.ENDPOINT}/{name.repo}"
    before = f"{otherwise}; " if otherwise else ""
    try:
        yield
    except errors.HFValidationError as error:
        raise InputError(f"{before}{name}: no name of the hub: {brief(error)}") from None
    except errors.GatedRepoError:
        raise InputError(
            f"{before}{address} is open only to those who were let in: ask there, then log in with "
            "`hf auth login` or set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{before}nor is there a policy {address} ({_LOG_IN})"
            if otherwise
            else f"there is no {address} ({_LOG_IN})"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{before}{address} has no revision '{name.revision}'") from None
    except errors.LocalEntryNotFoundError as error:
        # It is raised of what hides why the hub was not asked, or not reached.
        why = why_out_of_reach() or brief(error.__cause__ or error)
        raise InputError(
            f"{before}the hub was not reached for {address} ({why}), and {file} of it was not "
            "downloaded before"
        ) from None
    except errors.EntryNotFoundError:
        raise InputError(
            f"{before}{address} holds no {file}: it is no policy of lfm-policy, or not a whole one"
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise InputError(
                f"{before}{address}: the hub does not allow that ({status}): log in with "
                "`hf auth login` or set HF_TOKEN to a token that may"
            ) from None
        raise InputError(f"{before}{address}: the hub answered {status}: try again later") from None
    except InputError:
        raise
    except Exception as error:  # whatever the layers of the network below raise
        raise InputError(f"{before}{address}: {' '.join(str(error).split())[:400]}") from error
