"""Writes the pages and figures of docs/results/, and numbers elsewhere, from what was measured.

Pages are made of the templates in scripts/results/pages/, figures of what the modules in
scripts/results/resultpages/subjects/ say is drawn. In README.md and the other pages of docs/,
numbers stand between marks (scripts/results/numbers.yaml says which there are). Model cards of the
policies in the package are written as well. The data are docs/results/data/.

    python scripts/results/write.py            # writes what is not as it should be
    python scripts/results/write.py --check    # writes nothing, says what would change, exit code 1
"""

from __future__ import annotations

import argparse
import sys

from resultpages.checking import differences
from resultpages.pages import Results
from resultpages.pictures import draw, drawn_digest

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import write_text


def write(results: Results) -> None:
    """Write all files that say something else than the data."""
    for path, text in results.texts():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
            print(f"written: {path.relative_to(results.root)}")
    results.figures.mkdir(exist_ok=True)
    for name, picture in results.pictures.items():
        path = results.figures / f"{name}.png"
        if drawn_digest(path) != picture.digest():
            draw(picture, path)
            print(f"drawn: {path.relative_to(results.root)}")
    for path in results.figures.glob("*.png"):
        if path.stem not in results.pictures:
            path.unlink()
            print(f"removed: {path.relative_to(results.root)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if something would")
    arguments = parser.parse_args()
    results = Results()
    try:
        if not arguments.check:
            write(results)
        elif found := list(differences(results)):
            print("\n".join(found))
            sys.exit(1)
    except InputError as error:
        sys.exit(f"write.py: {error}")


if __name__ == "__main__":
    main()
