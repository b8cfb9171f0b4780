"""The mathematics of Local Flow Matching; it knows nothing of robots, files or configurations.

A chain of N blocks carries data (t = 0 of block 1) to N(0, I) (t = 1 of block N). Shapes are
x (B, *chunk_shape) for any chunk shape, t (B,), cond (B, cond_dim) or None.

    paths          OU schedule, interpolants, couplings, times of a block
    methods        rules for a block, one file each         block          network, path and method
    solvers        one ODE, evaluations counted             chain          sampling, push-forward
    likelihood     log p(x | O)                             affine         closed forms to verify by
    fitting        trains a chain on tensors                ema            EMA of the weights
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfm_policy.flow.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # Not at once: configurations only want to know the names in `choices`, without torch.
    api = importlib.import_module("lfm_policy.flow.api")
    if name in api.__all__:
        return getattr(api, name)
    raise AttributeError(f"module 'lfm_policy.flow' has no attribute '{name}'")
