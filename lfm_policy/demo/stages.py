"""The stages of a demo: said when they begin, timed over all attempts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import write_json


class Stages:
    """Wall-clock seconds of each stage, kept in a file so that a continued demo adds to them."""

    def __init__(self, path: Path, *, total: int, quiet: bool) -> None:
        """Take up the seconds of earlier attempts.

        Args:
            path: JSON file; it may not exist, and a damaged one counts for nothing.
            total: number of stages.
            quiet: say nothing.
        """
        self._path = path
        self._total = total
        self._quiet = quiet
        self._begun = 0
        self._seconds = _read(path)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of every stage that has been entered, by name, in their order."""
        return dict(self._seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside, also when it is interrupted.

        Bad input is not timed: nothing was done, and nothing is to be written.
        """
        self._begun += 1
        if not self._quiet:
            print(f"[{self._begun}/{self._total}] {name}", flush=True)
        start = time.perf_counter()
        try:
            yield
        except InputError:
            raise
        except BaseException:
            self._add(name, start)
            raise
        self._add(name, start)

    def _add(self, name: str, start: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start
        write_json(self._path, self._seconds)


def _read(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
