"""What can go wrong, whatever part of the package it happens in; light to import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lfm_runtime.errors import InputError

__all__ = [
    *("CollectError", "EvaluationError", "InputError", "Interrupted", "TrainingError"),
    *("brief", "reading"),
]


class TrainingError(RuntimeError):
    """The loss is not a number, or a block cannot be integrated."""


class EvaluationError(RuntimeError):
    """The evaluation cannot be completed, for a reason that is no mistake in the input."""


class CollectError(RuntimeError):
    """Demonstrations cannot be collected, for a reason that is no mistake in the input."""


class Interrupted(Exception):
    """A command was asked to stop and has saved what it needs to go on."""


def brief(error: BaseException) -> str:
    """Return kind and first line of an error of a library, at most 200 characters of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def reading(problem: str, advice: str, *, passing: type[Exception] = InputError) -> Iterator[None]:
    """Turn failures of a library into an InputError: ``problem (what it says): advice``.

    Readers of files raise what they like on damaged data; errors that are messages already, and
    those of ``passing``, stay as they are.
    """
    try:
        yield
    except (InputError, passing):
        raise
    except Exception as error:
        raise InputError(f"{problem} ({brief(error)}): {advice}") from error
