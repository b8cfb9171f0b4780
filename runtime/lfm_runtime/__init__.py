"""Run exported action-chunk policies: one folder with a graph, no torch, no training code."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lfm_runtime.errors import InputError, PolicyServerError
from lfm_runtime.version import __version__

if TYPE_CHECKING:
    from lfm_runtime.export.onnx_policy import OnnxPolicy
    from lfm_runtime.wire.client import WebsocketClientPolicy
    from lfm_runtime.wire.server_metadata import PolicyChangedError

__all__ = [
    "InputError",
    "OnnxPolicy",
    "PolicyChangedError",
    "PolicyServerError",
    "WebsocketClientPolicy",
    "__version__",
]

# Imported when asked for: who needs the client should not wait for ONNX Runtime.
_WHERE = {
    "OnnxPolicy": "lfm_runtime.export.onnx_policy",
    "PolicyChangedError": "lfm_runtime.wire.server_metadata",
    "WebsocketClientPolicy": "lfm_runtime.wire.client",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'lfm_runtime' has no attribute '{name}'")
