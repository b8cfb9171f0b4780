"""Encoder of low-dimensional observations: joint positions, poses, keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.encoders.options import ACTIVATIONS, DIFFERENCES, StateEncoderConfig
from lfm_policy.errors import InputError
from lfm_policy.networks.options import MAX_COND_DIM

DIFFERENCE_SCALE = 8.0
"""Of differences between frames: a motion of an eighth of the range then weighs as much as a place
at its end. A power of two, so that multiplying rounds nothing."""


class HistoryEncoder(ObsEncoder):
    """The history of all observations as one vector, through an MLP if it has hidden layers.

    The vector is ordered by frame, oldest first, and within a frame by the name of the observation.
    With ``history: differences`` every frame but the newest gives `DIFFERENCE_SCALE` times what
    the next one, numbers or features, has more.
    Subclasses make ``layers`` with `fusion_layers`, after what else has weights.
    """

    same_work = True
    layers: nn.Sequential

    def __init__(
        self,
        config: StateEncoderConfig,
        obs_shapes: Mapping[str, tuple[int, ...]],
        n_obs_steps: int,
        feature_dims: Mapping[str, int],
    ) -> None:
        """Check the size of the history; ``feature_dims`` are lengths of the cameras' features."""
        sizes = {
            key: feature_dims.get(key) or math.prod(shape) for key, shape in obs_shapes.items()
        }
        history_size = n_obs_steps * sum(sizes.values())
        if history_size > MAX_COND_DIM:
            raise InputError(
                f"observations and features have {history_size} numbers in {n_obs_steps} frames, "
                f"the '{config.name}' encoder takes at most {MAX_COND_DIM}; lower n_obs_steps or "
                "leave some out"
            )
        super().__init__(obs_shapes, n_obs_steps, config.cond_dim(history_size))
        self._sizes = sizes
        self._differences = config.history == DIFFERENCES

    def history_columns(self, key: str) -> list[int]:
        """Return where the numbers of an observation stand in the vector of the history."""
        length, begin = sum(self._sizes.values()), 0
        for other, size in self._sizes.items():
            if other == key:
                break
            begin += size
        frames = range(begin, length * self.n_obs_steps, length)
        return [column for frame in frames for column in range(frame, frame + self._sizes[key])]

    def fusion_layers(self, config: StateEncoderConfig) -> nn.Sequential:
        """Return the MLP from the history to the condition; empty: pass on."""
        history_size = self.n_obs_steps * sum(self._sizes.values())
        hidden = list(config.hidden) if history_size else []
        layers: list[nn.Module] = []
        for size_in, size_out in zip([history_size, *hidden], hidden, strict=False):
            layers += [nn.Linear(size_in, size_out), ACTIVATIONS.get(config.activation)()]
        if hidden and config.output_dim:
            layers.append(nn.Linear(hidden[-1], config.output_dim))
        return nn.Sequential(*layers)

    def fuse(self, obs: Mapping[str, Tensor]) -> Tensor | None:
        """Return the condition, shape (batch, cond_dim), or None without observations.

        Raises:
            InputError: an observation is missing or has the wrong shape; the message names it.
        """
        if not self._sizes:
            return None
        frames = []
        for key, size in self._sizes.items():
            value = self._observation(obs, key, (size,) if key in self.image_keys else None)
            frames.append(value.reshape(value.shape[0], self.n_obs_steps, size))
        history = torch.cat(frames, dim=-1)
        if self._differences:
            motions = DIFFERENCE_SCALE * (history[:, 1:] - history[:, :-1])
            history = torch.cat([motions, history[:, -1:]], dim=1)
        cond: Tensor = self.layers(history.flatten(1))
        return cond


class StateEncoder(HistoryEncoder):
    """The encoder of observations with at most 2 dimensions per frame.

    Such as () for a scalar, (7,) for joints or (8, 2) for keypoints.
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
        super().__init__(config, obs_shapes, n_obs_steps, {})
        self.layers = self.fusion_layers(config)
