"""What a policy knows of its data: names and shapes of observations, size of an action."""

from __future__ import annotations

from lfm_runtime.spec import DataSpec

__all__ = ["DataSpec"]
