"""What can go wrong, whatever part of the package it happens in; light to import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lfm_runtime.errors import InputError

__all__ = [
    "CollectError",
    "EvaluationError",
    "ExportError",
    "InputError",
    "Interrupted",
    "Key",
    "NoDatasetError",
    "OptionError",
    "RobotError",
    "TrainingError",
    "UnknownOptionError",
    "brief",
    "dotted",
    "reading",
]

Key = tuple[str | int, ...]
"""Where an option stands: sections, its name, and the position in a list."""


class TrainingError(RuntimeError):
    """The loss is not a number, or a block cannot be integrated."""


class EvaluationError(RuntimeError):
    """The evaluation cannot be completed, for a reason that is no mistake in the input."""


class ExportError(RuntimeError):
    """An export does not do what its policy does."""


class CollectError(RuntimeError):
    """Demonstrations cannot be collected, for a reason that is no mistake in the input."""


class RobotError(RuntimeError):
    """A robot's own code raised, which is the cause; the message names the call and the step."""


class Interrupted(Exception):
    """A command was asked to stop and has saved what it needs to go on."""


class NoDatasetError(InputError):
    """Nothing is where demonstrations should be."""


def brief(error: BaseException) -> str:
    """Return kind and first line of an error of a library, at most 200 characters of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def shown(value: Any) -> str:
    """Return a value of a JSON file for a message, in bounded length."""
    # Not the repr of everything: it may be as deep and as long as the file allows.
    if value is None:
        return "missing"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list):
        simple = len(value) <= 10 and not any(isinstance(item, (dict, list)) for item in value)
        return str(value)[:100] if simple else f"a list of {len(value)} elements"
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "..."


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


class OptionError(InputError):
    """An option is not what it has to be.

    Attributes:
        key: of the option, by section, such as ("flow", "step_sizes", 0).
        reason: what follows the key in the message: "is 3, expected ...", or ": found ...".
    """

    def __init__(self, key: str | Key, reason: str) -> None:
        super().__init__(key, reason)  # both, so that the error survives a process boundary
        self.key: Key = (key,) if isinstance(key, str) else key
        self.reason = reason

    def under(self, *section: str | int) -> OptionError:
        """Return the same error of an option in a section."""
        return type(self)((*section, *self.key), self.reason)

    def __str__(self) -> str:
        return f"{dotted(self.key)}{'' if self.reason.startswith(':') else ' '}{self.reason}"


class UnknownOptionError(OptionError):
    """There is no option of this name; the reason is a hint at the nearest ones."""

    def __str__(self) -> str:
        parent = f" of '{dotted(self.key[:-1])}'" if self.key[1:] else ""
        return f"unknown key '{dotted(self.key)[:200]}'{parent}: {self.reason}"


def dotted(key: Key) -> str:
    """Return a key as people write it, such as ``flow.step_sizes[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")
