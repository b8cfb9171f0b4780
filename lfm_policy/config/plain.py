"""Options as they come from files and command lines, checked before anything works on them."""

from __future__ import annotations

from lfm_runtime.plain import plain_options

__all__ = ["plain_options"]
