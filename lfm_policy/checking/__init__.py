"""Whether a trained policy is any good: errors, losses and pictures, without a simulator."""

from __future__ import annotations

from lfm_policy.checking.check import check
from lfm_policy.checking.result import PolicyCheck

__all__ = ["PolicyCheck", "check"]
