"""Regression in one or two steps: the first prediction sees no noise."""

from __future__ import annotations

from torch import Tensor

from lfm_policy.flow.methods.clean_chunk import CleanChunkMethod
from lfm_policy.flow.solvers.velocity import Network, per_sample


class RegressionMethod(CleanChunkMethod):
    """The clean chunk, and at t = 1 predicted from the observation alone.

    There the network sees zeros in place of the noise. With one time t = 1 this is plain
    regression; with t = 1 and t = 0.1 it is the two-step regression ("MIP") of Pan et al., "Much
    Ado About Noising", arXiv:2512.01809.
    """

    def predict(self, network: Network, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the predicted chunk, with x replaced by 0 where t = 1."""
        return network(x * per_sample((t < 1).to(x.dtype), x), t, cond)
