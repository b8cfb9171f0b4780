"""A hub of one's own, and policies to push there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ..http_server import serving
from .hub_server import TOKEN, HubServer


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the working one, so that no name of the hub is one of a folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hub(tmp_path: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Let huggingface_hub speak to a local server, logged in, with an empty cache."""
    with serving(HubServer()) as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        # Its storage has a protocol of its own; without it files go by LFS.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder of a small finished run."""
    folder = tmp_path / "runs" / "small"
    shutil.copytree(small_run, folder)
    return folder
