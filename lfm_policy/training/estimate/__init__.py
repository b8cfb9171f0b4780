"""How long a training will take, and what it needs: measured from a few steps, said beforehand."""

from __future__ import annotations

from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.estimate.work import Share, Work, measure

__all__ = ["Estimate", "Share", "Work", "measure"]
