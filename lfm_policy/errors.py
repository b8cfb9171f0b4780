"""What can go wrong, whatever part of the package it happens in; light to import."""

from __future__ import annotations

from lfm_runtime.errors import InputError

__all__ = ["CollectError", "EvaluationError", "InputError", "Interrupted", "TrainingError"]


class TrainingError(RuntimeError):
    """The loss is not a number, or a block cannot be integrated."""


class EvaluationError(RuntimeError):
    """The evaluation cannot be completed, for a reason that is no mistake in the input."""


class CollectError(RuntimeError):
    """Demonstrations cannot be collected, for a reason that is no mistake in the input."""


class Interrupted(Exception):
    """A command was asked to stop and has saved what it needs to go on."""
