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
) -> tuple[list[np.ndarray], list[int]]:
    """Return the actions of each request, (n_action_steps, action_dim), and its NFE.

    The result of a request depends only on the policy, the seed, its episode and chunk number and
    its observations.
    """
    # An adaptive solver chooses its steps for a whole batch, so there each row is its own batch.
    rows = ROWS if policy.sampler.nfe is not None else 1
    actions: dict[int, np.ndarray] = {}
    nfe: dict[int, int] = {}
    waiting = dict(enumerate(requests))
    while waiting:
        taken: dict[int, int] = {}
        for position, request in waiting.items():
            taken.setdefault(request.episode % rows, position)
        called = {row: waiting.pop(position) for row, position in taken.items()}
        executed, n = _predict_rows(policy, called, rows, seed)
        actions |= {position: executed[row] for row, position in taken.items()}
        nfe |= dict.fromkeys(taken.values(), n)
    positions = range(len(requests))
    return [actions[position] for position in positions], [nfe[position] for position in positions]


def _predict_rows(
    policy: EvaluatedPolicy, called: Mapping[int, ChunkRequest], rows: int, seed: int
) -> tuple[np.ndarray, int]:
    """Return (rows, n_action_steps, action_dim) with the answers in their rows, and the NFE."""
    # Rows nobody asked for hold somebody's observation, which is valid, and no noise.
    filler = next(iter(called.values()))
    batch = {
        key: np.stack([called.get(row, filler).obs[key] for row in range(rows)])
        for key in policy.spec.obs_shapes
    }
    noise = torch.zeros(rows, *policy.chunk_shape)
    for row, request in called.items():
        noise[row] = chunk_noise(seed, request.episode, request.chunk, policy.chunk_shape)
    result = policy.sample(batch, noise=noise)
    first = policy.n_obs_steps - 1
    executed = result.chunk[:, first : first + policy.n_action_steps]
    return executed.cpu().numpy(), result.nfe
