"""Noise that depends only on (seed, episode, chunk), so that rollouts can be repeated."""

from __future__ import annotations

import numpy as np


def chunk_noise(seed: int, episode: int, chunk: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the standard normal noise of one chunk, shape ``shape``, float32.

    Depends on nothing but its arguments: not on the batch, the device or the number of
    environments.

    Args:
        seed: seed of the evaluation, not negative.
        episode: number of the episode, not negative.
        chunk: number k of the chunk within the episode, not negative.
        shape: shape of one chunk, (horizon, action_dim).
    """
    generator = np.random.Generator(
        np.random.Philox(np.random.SeedSequence((seed, episode, chunk)))
    )
    return generator.standard_normal(shape, dtype=np.float32)
