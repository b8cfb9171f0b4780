"""Collect demonstrations without a download: scripted experts, and a trained policy for PushT."""

from __future__ import annotations

from lfm_policy.collect.collect import Collected, collect
from lfm_policy.collect.demonstrator import Demonstrator
from lfm_policy.collect.experts import EXPERTS
from lfm_policy.collect.options import CollectOptions
from lfm_policy.errors import CollectError

__all__ = ["EXPERTS", "CollectError", "CollectOptions", "Collected", "Demonstrator", "collect"]
