"""What goes wrong in an evaluation that is no mistake in the input."""

from __future__ import annotations


class EvaluationError(RuntimeError):
    """The evaluation cannot be completed."""
