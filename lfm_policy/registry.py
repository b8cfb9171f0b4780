"""Things chosen by name: networks, encoders, dataset formats, solvers."""

from __future__ import annotations

from lfm_runtime.registry import Registry, nearest_names

__all__ = ["Registry", "nearest_names"]
