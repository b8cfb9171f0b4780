"""Pages of the site made of files at the root of the repository: they are kept once."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages; `links.py` mends their links."""
    root = Path(config.config_file_path).parent
    for name, page in PAGES.items():
        content = (root / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files
