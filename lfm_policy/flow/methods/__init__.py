"""Rules for a block, by name: one file each."""

from lfm_policy.flow.choices import METHODS
from lfm_policy.flow.methods.base import BlockPath, Method, OdeMethod, check_output
from lfm_policy.flow.methods.clean_chunk import CleanChunkMethod
from lfm_policy.flow.methods.regression import RegressionMethod
from lfm_policy.flow.methods.velocity import VelocityMethod

__all__ = [
    "METHODS",
    "BlockPath",
    "CleanChunkMethod",
    "Method",
    "OdeMethod",
    "RegressionMethod",
    "VelocityMethod",
    "check_output",
]
