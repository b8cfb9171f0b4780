"""Exports: one graph with the whole sampler, and the check that it does what the policy does."""

from __future__ import annotations

from lfm_policy.errors import InputError

try:
    import onnx  # noqa: F401
    import onnxscript  # noqa: F401
except ImportError as error:
    raise InputError(
        f"exporting needs the package '{error.name}': pip install \".[deploy]\" in "
        "the folder of the package"
    ) from None

from lfm_policy.exporting.check import (
    TOLERANCE,
    Difference,
    Observations,
    SuccessChange,
    compare_chunks,
    compare_success,
    real_observations,
    require_same_chunks,
)
from lfm_policy.exporting.export import export_policy
from lfm_policy.exporting.graph import policy_graph

__all__ = [
    "TOLERANCE",
    "Difference",
    "Observations",
    "SuccessChange",
    "compare_chunks",
    "compare_success",
    "export_policy",
    "policy_graph",
    "real_observations",
    "require_same_chunks",
]
