"""Encoders of a policy whose blocks do not share one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lfm_policy.encoders.base import ObsEncoder


class PerBlockEncoder(ObsEncoder):
    """One encoder per block; the condition is theirs, one after the other.

    The features of an image are those of all encoders, one after the other, too.
    """

    def __init__(self, encoders: Sequence[ObsEncoder]) -> None:
        first = encoders[0]
        super().__init__(
            first.obs_shapes, first.n_obs_steps, sum(encoder.cond_dim for encoder in encoders)
        )
        self.encoders = nn.ModuleList(encoders)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return self.of_block(1).image_keys

    def of_block(self, n: int) -> ObsEncoder:
        """Return the encoder of block n = 1..N."""
        encoder = self.encoders[n - 1]
        assert isinstance(encoder, ObsEncoder)
        return encoder

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights that training changes, by name."""
        return {
            f"encoders.{i}.{name}": parameter
            for i in range(len(self.encoders))
            for name, parameter in self.of_block(i + 1).trained_parameters().items()
        }

    def load_pretrained(self) -> None:
        """Load the weights of pretrained backbones."""
        for i in range(len(self.encoders)):
            self.of_block(i + 1).load_pretrained()

    def encode_images(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the observations with (batch, steps, N * features) in place of images."""
        n = len(self.encoders)
        # What has features already, as a frame that was seen before.
        known = [key for key in self.image_keys if key in obs and obs[key].ndim == 3]
        features = {key: obs[key].chunk(n, dim=-1) for key in known}
        parts = [
            self.of_block(i + 1).encode_images(
                {**obs, **{key: own[i] for key, own in features.items()}}
            )
            for i in range(n)
        ]
        encoded = dict(obs)
        for key in self.image_keys:
            if key not in features:
                encoded[key] = torch.cat([part[key] for part in parts], dim=-1)
        return encoded

    def fuse(self, obs: Mapping[str, Tensor]) -> Tensor | None:
        """Return the conditions of all blocks, (batch, N * cond_dim)."""
        n = len(self.encoders)
        conds = []
        for i in range(n):
            own = dict(obs)
            for key in self.image_keys:
                own[key] = obs[key].chunk(n, dim=-1)[i]
            conds.append(self.of_block(i + 1).fuse(own))
        known = [cond for cond in conds if cond is not None]
        return torch.cat(known, dim=-1) if known else None

    def velocity(self, n: int, network: nn.Module) -> Callable[..., Any]:
        """Return the network of block n as a function of the condition of all blocks."""
        size, whole = self.of_block(n).cond_dim, self.cond_dim

        def own(x: Tensor, t: Tensor, cond: Tensor | None) -> Any:
            if cond is None:
                return network(x, t, None)
            part = cond[:, (n - 1) * size : n * size]
            if cond.shape[1] > whole:
                # What follows the encodings is for all blocks: a prefix of actions.
                part = torch.cat([part, cond[:, whole:]], dim=1)
            return network(x, t, part)

        return own


def block_cond_dim(encoder: ObsEncoder) -> int:
    """Return the length of the condition of one block."""
    return (
        encoder.of_block(1).cond_dim if isinstance(encoder, PerBlockEncoder) else encoder.cond_dim
    )
