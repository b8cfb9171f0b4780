"""Notebooks as pages: their text and code. Outputs are not stored in them."""

from __future__ import annotations

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def as_markdown(notebook: Path) -> str:
    """Return a notebook's cells as a page."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"]).strip()
        if not source:
            continue
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    # Below the title: this page is a notebook, and where it is.
    note = f'<p><a href="{notebook.name}" download>Download this page as a notebook</a></p>'
    parts.insert(1, note)
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for every notebook, beside the notebook itself."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb") and file.abs_src_path:
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            content = as_markdown(Path(file.abs_src_path))
            files.append(File.generated(config, page, content=content))
    return files
