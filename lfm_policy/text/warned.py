"""Warnings as a user reads them: one line each, without the place in the code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_OF_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning)


class _OneLine:
    """Stands in for `warnings.showwarning`."""

    def __init__(self, said: Iterable[str]) -> None:
        self.said = set(said)

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: object = None,
        line: object = None,
    ) -> None:
        text = " ".join(part.strip() for part in str(message).splitlines())
        if text not in self.said:
            self.said.add(text)
            _print_above_bars(f"warning: {text}")


@contextmanager
def one_line_warnings(said: Iterable[str] = ()) -> Iterator[None]:
    """Print every warning at once to standard error as ``warning: <text>``, the same text once.

    Args:
        said: texts that another process has printed already, see `warnings_said`.
    """
    with warnings.catch_warnings():  # puts everything back
        if not sys.warnoptions:
            for category in _OF_DEVELOPERS:
                warnings.simplefilter("ignore", category)
        warnings.showwarning = _OneLine(said)
        yield


def warnings_said() -> tuple[str, ...]:
    """Return what `one_line_warnings` has printed in this process; nothing outside of it."""
    shown = warnings.showwarning
    return tuple(shown.said) if isinstance(shown, _OneLine) else ()


def _print_above_bars(line: str) -> None:
    if "tqdm" not in sys.modules:  # so there is no bar, and nothing has to be imported
        print(line, file=sys.stderr, flush=True)
        return
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)
