"""What goes wrong while demonstrations are collected."""

from __future__ import annotations


class CollectError(RuntimeError):
    """Demonstrations cannot be collected, for a reason that is no mistake in the input."""
