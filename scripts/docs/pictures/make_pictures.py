"""Make the pictures of the site again, from closed forms, small trainings and bundled policies.

    python scripts/docs/pictures/make_pictures.py              # all: some minutes of one CPU thread
    python scripts/docs/pictures/make_pictures.py lfm noise    # those of some pages

They are the same on every run of one machine.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "how" / "images"
PAGES = (
    *("lfm", "one_evaluation", "diffusion", "distillation", "noise", "guidance"),
    *("blocks", "joining", "tree"),
)


def make(pages: list[str], folder: Path, *, quick: bool) -> list[Path]:
    """Make the pictures of pages; returns their files."""
    made = []
    for page in pages:
        torch.manual_seed(0)
        made += importlib.import_module(f"draw_{page}").draw(folder, quick=quick)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", choices=[[], *PAGES], help="default: all")
    parser.add_argument("--quick", action="store_true", help="rough ones, to try the script")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    torch.set_num_threads(1)
    for path in make(arguments.pages or list(PAGES), arguments.folder, quick=arguments.quick):
        print(f"{path}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
