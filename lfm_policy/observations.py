"""What kind of observation a shape is."""

from __future__ import annotations

from lfm_runtime.observations import is_image

__all__ = ["is_image"]
