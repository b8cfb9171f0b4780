"""Collect demonstrations without a download: scripted experts, and a trained policy for PushT."""

from __future__ import annotations

from lfm_policy.collect.collect import Collected, collect
from lfm_policy.collect.options import COLLECT_TASKS, CollectOptions
from lfm_policy.errors import CollectError

__all__ = ["COLLECT_TASKS", "CollectError", "CollectOptions", "Collected", "collect"]
