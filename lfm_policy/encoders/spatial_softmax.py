"""Keypoints: where feature maps are bright, how widely, and what is there."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from lfm_policy.device import full_precision


class SpatialSoftmax(nn.Module):
    """Expected position of each map under its softmax (Finn et al. 2016, arXiv:1509.06113).

    Maps (B, K, h, w) to (B, 2 K): all x, then all y, from -1 at the centre of the first pixel of a
    map to 1 at that of the last. All of it is computed in float32, under autocast as well.

    With ``spread``, variances of x and of y and the covariance under each softmax follow,
    (B, 5 K) in all: how long what is seen is, and along which line it lies. Means under each
    softmax of further maps, which `forward` may be given, follow these: attention pooling.

    Args:
        height: of the maps.
        width: of the maps.
        keypoints: K, if every map has a temperature of its own; 0 for one of all maps.
        spread: whether second moments are returned.
        temperature: with which learning begins.
    """

    def __init__(
        self,
        height: int,
        width: int,
        keypoints: int = 0,
        spread: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        x = torch.linspace(-1, 1, width) if width > 1 else torch.zeros(1)
        y = torch.linspace(-1, 1, height) if height > 1 else torch.zeros(1)
        columns = [x.repeat(height), y.repeat_interleave(width)]
        if spread:
            columns += [columns[0] ** 2, columns[1] ** 2, columns[0] * columns[1]]
        self._spread = spread
        self.register_buffer("_grid", torch.stack(columns, dim=1), persistent=False)
        self.temperature = nn.Parameter(
            torch.full((keypoints, 1, 1) if keypoints else (), temperature)
        )

    def forward(self, maps: Tensor, values: Tensor | None = None) -> Tensor:
        """Return the positions, spreads and means, (B, (2 or 5 + V) K) float32.

        Args:
            maps: (B, K, h, w).
            values: (B, K V, h, w), V maps for each softmax, those of the first one first.
        """
        with full_precision(maps.device):
            return self.of_logits(maps.float() / self.temperature, values)

    def of_logits(self, logits: Tensor, values: Tensor | None = None) -> Tensor:
        """Return the same for maps that are divided by the temperature already, in float32."""
        attention = torch.softmax(logits.flatten(2), dim=2)
        found = attention @ self.get_buffer("_grid")
        if self._spread:
            x, y, xx, yy, xy = found.unbind(2)
            found = torch.stack([x, y, xx - x * x, yy - y * y, xy - x * y], dim=2)
        if values is not None:
            what = values.float().flatten(2).unflatten(1, (logits.shape[1], -1))
            means = (attention[:, :, None] * what).sum(3)
            found = torch.cat([found, means], dim=2)
        return rearrange(found, "n k xy -> n (xy k)")
