"""Encoder of low-dimensional observations: joint positions, poses, keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lfm_policy.encoders.base import EncoderConfig, ObsEncoder
from lfm_policy.errors import InputError, OptionError
from lfm_policy.networks.base import MAX_COND_DIM, MAX_WIDTH
from lfm_policy.options import option, options
from lfm_runtime.registry import Registry

ACTIVATIONS: Registry[type[nn.Module]] = Registry(
    "activation", {"silu": nn.SiLU, "mish": nn.Mish, "gelu": nn.GELU, "relu": nn.ReLU}
)


@options
class StateEncoderConfig(EncoderConfig):
    """Options of the state encoder; by default it has no parameters."""

    name: str = option("state", "which observation encoder", choices=["state"])
    hidden: list[Annotated[int, Field(ge=1, le=MAX_WIDTH)]] = option(
        [],
        "widths of hidden layers; empty passes the observations on as they are",
        common=True,
        max_length=32,
    )
    output_dim: int = option(
        0,
        "length of the condition vector; 0 for the last width of hidden",
        ge=0,
        le=MAX_WIDTH,
    )
    activation: str = option("silu", "after each hidden layer", choices=ACTIVATIONS)

    def __post_init__(self) -> None:
        if self.output_dim and not self.hidden:
            raise OptionError(
                "output_dim",
                f"is {self.output_dim}, expected 0 when hidden is empty: without layers the "
                "observations are passed on as they are",
            )

    def cond_dim(self, history_size: int) -> int:
        """Return the length of the condition for a history of so many numbers."""
        # Without observations there is nothing to encode, whatever the layers.
        if not self.hidden or not history_size:
            return history_size
        return self.output_dim or self.hidden[-1]

    def layers(self, history_size: int) -> nn.Sequential:
        """Return the MLP from the history to the condition; empty: pass on."""
        hidden = list(self.hidden) if history_size else []
        layers: list[nn.Module] = []
        for size_in, size_out in zip([history_size, *hidden], hidden, strict=False):
            layers += [nn.Linear(size_in, size_out), ACTIVATIONS.get(self.activation)()]
        if hidden and self.output_dim:
            layers.append(nn.Linear(hidden[-1], self.output_dim))
        return nn.Sequential(*layers)

    def _build(self, obs_shapes: dict[str, tuple[int, ...]], n_obs_steps: int) -> ObsEncoder:
        return StateEncoder(self, obs_shapes, n_obs_steps)


class StateEncoder(ObsEncoder):
    """The history of all observations as one vector, through an MLP if it has hidden layers.

    The vector is ordered by frame, oldest first, and within a frame by the name of the observation.
    Takes observations with at most 2 dimensions per frame, such as () for a scalar, (7,) for
    joints or (8, 2) for keypoints.
    """

    def __init__(
        self,
        config: StateEncoderConfig,
        obs_shapes: dict[str, tuple[int, ...]],
        n_obs_steps: int,
    ) -> None:
        for key, shape in obs_shapes.items():
            if len(shape) > 2:
                raise InputError(
                    f"observation '{key}' has shape {shape}: the 'state' encoder takes at most 2 "
                    f"dimensions per frame; leave out images or choose encoder.name=cameras"
                )
        sizes = {key: math.prod(shape) for key, shape in obs_shapes.items()}
        history_size = n_obs_steps * sum(sizes.values())
        if history_size > MAX_COND_DIM:
            raise InputError(
                f"the observations have {history_size} numbers in {n_obs_steps} frames, the "
                f"'state' encoder takes at most {MAX_COND_DIM}; lower n_obs_steps or leave some out"
            )
        super().__init__(obs_shapes, n_obs_steps, config.cond_dim(history_size))
        self._sizes = sizes
        self.layers = config.layers(history_size)

    def fuse(self, obs: Mapping[str, Tensor]) -> Tensor | None:
        """Return the condition, shape (batch, cond_dim), or None without observations.

        Raises:
            InputError: an observation is missing or has the wrong shape; the message names it.
        """
        if not self._sizes:
            return None
        frames = []
        for key, size in self._sizes.items():
            value = self._observation(obs, key)
            frames.append(value.reshape(value.shape[0], self.n_obs_steps, size))
        history: Tensor = self.layers(torch.cat(frames, dim=-1).flatten(1))
        return history
