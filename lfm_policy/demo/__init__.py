"""The demo: everything from demonstrations to a page that one can show to a colleague."""

from __future__ import annotations

from lfm_policy.demo.demo import run_demo

__all__ = ["run_demo"]
