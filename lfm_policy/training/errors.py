"""Why a training cannot go on."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """The loss is not a number, or a block cannot be integrated."""
