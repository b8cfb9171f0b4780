"""Links of pages as GitHub shows them, made fit for the site.

A link to a notebook leads to the page made of it, one to CONTRIBUTING.md at the root to its page.
Files of the repository that are no part of the site become plain text: it can be read where the
repository is not. That they are there is checked all the same.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from root_pages import PAGES

# Code, where brackets mean something else, or a link to a path here.
PATTERN = re.compile(
    r"(?P<code>^(?P<fence>```+).*?^(?P=fence)[ ]*$"
    r"|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`))"
    r"|(?<!!)\[(?P<text>(?:[^\]\[`]|`[^`]*`)+)\]"
    r"\((?P<path>(?!\w+:|#)[^)\s#]+)(?P<anchor>#[^)\s]*)?\)",
    re.DOTALL | re.MULTILINE,
)


def fit_links(markdown: str, name: str, docs: Path) -> str:
    """Return the text of the page of this name with links that lead somewhere on the site."""
    root = docs.parent
    sources = {root / source: page for source, page in PAGES.items()}
    sources[root / "README.md"] = "index.md"
    start = root if name in PAGES.values() else (docs / name).parent

    def fit(found: re.Match[str]) -> str:
        if found["code"]:
            return found[0]
        target = (start / found["path"]).resolve()
        if not target.exists():
            return found[0]  # a page that the site is built with, or an error that mkdocs finds
        if target in sources:
            target = docs / sources[target]
        elif not target.is_relative_to(docs):
            return found["text"]
        if target.suffix == ".ipynb":
            target = target.with_suffix(".md")
        path = Path(os.path.relpath(target, (docs / name).parent)).as_posix()
        return f"[{found['text']}]({path}{found['anchor'] or ''})"

    return PATTERN.sub(fit, markdown)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page fit the site; mkdocs checks them then."""
    return fit_links(markdown, page.file.src_uri, Path(config.docs_dir).resolve())
