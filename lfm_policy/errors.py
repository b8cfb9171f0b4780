"""The one exception for mistakes in what the user gave us."""

from __future__ import annotations

from lfm_runtime.errors import InputError

__all__ = ["InputError"]
