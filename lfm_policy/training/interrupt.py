"""Stopping cleanly on SIGINT, SIGTERM and SIGHUP."""

from __future__ import annotations

from lfm_runtime.interrupt import InterruptFlag

__all__ = ["InterruptFlag", "Interrupted"]


class Interrupted(Exception):
    """Training was asked to stop and has saved what it needs to go on."""
