"""Whether files say what the data say, and where they do not."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest

from resultpages.pages import Results
from resultpages.pictures import drawn_digest


def differences(results: Results) -> Iterator[str]:
    """Yield file, line, what is found there and what is expected."""
    for path, expected in results.texts():
        shown = path.relative_to(results.root).as_posix()
        if not path.exists():
            yield f"{shown} is missing"
            continue
        for line, found, wanted in changed_lines(path.read_text(), expected):
            yield f"{shown}:{line}: found {found!r}, expected {wanted!r}"
    for name, picture in results.pictures.items():
        path = results.figures / f"{name}.png"
        drawn = drawn_digest(path)
        if drawn != picture.digest():
            what = "is missing" if drawn is None else "shows other data than there are"
            yield f"{path.relative_to(results.root).as_posix()} {what}"
    for path in sorted(results.figures.glob("*.png")):
        if path.stem not in results.pictures:
            yield f"{path.relative_to(results.root).as_posix()} is drawn by nothing"


def changed_lines(found: str, expected: str) -> Iterator[tuple[int, str, str]]:
    """Yield the lines of a text that differ: number, text, and what should be there."""
    a, b = found.split("\n"), expected.split("\n")
    for tag, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            pairs = zip_longest(a[a0:a1], b[b0:b1], fillvalue="")
            yield from ((a0 + 1 + at, *pair) for at, pair in enumerate(pairs))
