"""Noise that depends only on (seed, episode, chunk), so that rollouts can be repeated."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_runtime.policy.noise import chunk_noise as numpy_noise


def chunk_noise(seed: int, episode: int, chunk: int, shape: tuple[int, ...]) -> Tensor:
    """Return the standard normal noise of one chunk, shape ``shape``, float32.

    Depends on nothing but its arguments: not on the batch, the device or the number of
    environments.

    Args:
        seed: seed of the evaluation, not negative.
        episode: number of the episode, not negative.
        chunk: number k of the chunk within the episode, not negative.
        shape: shape of one chunk, (horizon, action_dim).
    """
    return torch.from_numpy(numpy_noise(seed, episode, chunk, shape))
