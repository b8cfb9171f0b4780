"""Policy calls for many episodes at once, whose results do not depend on which others there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.policy import chunk_noise

ROWS = 32
"""Rows of every call. Matrix products round differently for different numbers of rows, and a
simulated contact amplifies the last bit; so the number of rows never changes, and an episode
always has the same row."""


@dataclass(frozen=True)
class ChunkRequest:
    """A chunk that an episode needs: its number k, and the observation history (by name)."""

    episode: int
    chunk: int
    obs: Mapping[str, np.ndarray]


def predict_chunks(
    policy: EvaluatedPolicy, requests: Sequence[ChunkRequest], *, seed: int
) -> tuple[list[np.ndarray], int]:
    """Return the actions of each request, (n_action_steps, action_dim), and the NFE per chunk.

    The result of a request depends only on the policy, the seed, its episode and chunk number and
    its observations.
    """
    # An adaptive solver chooses its steps for a whole batch, so there each row is its own batch.
    rows = ROWS if policy.nfe is not None else 1
    actions: dict[int, np.ndarray] = {}
    nfe = 0
    waiting = list(enumerate(requests))
    while waiting:
        taken: dict[int, tuple[int, ChunkRequest]] = {}
        later = []
        for position, request in waiting:
            row = request.episode % rows
            if row in taken:
                later.append((position, request))
            else:
                taken[row] = (position, request)
        waiting = later
        nfe = max(nfe, _predict_rows(policy, taken, rows, seed, actions))
    return [actions[position] for position in range(len(requests))], nfe


def _predict_rows(
    policy: EvaluatedPolicy,
    taken: Mapping[int, tuple[int, ChunkRequest]],
    rows: int,
    seed: int,
    actions: dict[int, np.ndarray],
) -> int:
    # Rows nobody asked for hold somebody's observation, which is valid, and no noise.
    filler = next(iter(taken.values()))[1].obs
    batch = {}
    for key in policy.spec.obs_shapes:
        stacked = np.stack([filler[key]] * rows)
        for row, (_, request) in taken.items():
            stacked[row] = request.obs[key]
        batch[key] = stacked
    shape = policy.chunk_shape
    noise = torch.zeros(rows, *shape)
    for row, (_, request) in taken.items():
        noise[row] = chunk_noise(seed, request.episode, request.chunk, shape)
    result = policy.sample(batch, noise=noise)
    first = policy.n_obs_steps - 1
    executed = result.chunk[:, first : first + policy.n_action_steps].cpu().numpy()
    for row, (position, _) in taken.items():
        actions[position] = executed[row]
    return result.nfe
