"""Chunks for many episodes: no result depends on which others are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_policy.evaluation.batching import ROWS, ChunkRequest, predict_chunks
from lfm_policy.policy import Policy


def request(policy: Policy, episode: int, chunk: int = 0) -> ChunkRequest:
    frames = [policy.fake_obs(seed=episode + 1000 * f) for f in range(policy.n_obs_steps)]
    obs = {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}
    return ChunkRequest(episode, chunk, obs)


@pytest.mark.parametrize("solver", ["euler", "dopri5"])
def test_a_chunk_is_bitwise_the_same_alone_and_among_others(policy: Policy, solver: str) -> None:
    policy.set_sampler(solver=solver)
    # More than ROWS requests, and several that fall on the same row.
    requests = [request(policy, episode) for episode in [*range(ROWS + 5), 3 + 2 * ROWS]]
    together, _ = predict_chunks(policy, requests, seed=7)
    for position in (0, 3, ROWS - 1, ROWS, len(requests) - 1):
        alone, _ = predict_chunks(policy, [requests[position]], seed=7)
        np.testing.assert_array_equal(alone[0], together[position])


def test_every_chunk_has_its_own_evaluations(policy: Policy) -> None:
    policy.set_sampler(solver="dopri5")
    requests = [request(policy, episode) for episode in range(6)]
    _, together = predict_chunks(policy, requests, seed=7)
    assert together == [predict_chunks(policy, [one], seed=7)[1][0] for one in requests]


def test_order_of_requests_does_not_matter(policy: Policy) -> None:
    requests = [request(policy, episode) for episode in range(6)]
    forward, _ = predict_chunks(policy, requests, seed=1)
    backward, _ = predict_chunks(policy, requests[::-1], seed=1)
    np.testing.assert_array_equal(np.stack(forward), np.stack(backward[::-1]))


def test_noise_depends_on_seed_episode_and_chunk(policy: Policy) -> None:
    base = request(policy, 4)
    (reference,), nfe = predict_chunks(policy, [base], seed=1)
    assert nfe == [4]
    assert reference.shape == (policy.n_action_steps, 2)
    for seed, episode, chunk in [(2, 4, 0), (1, 5, 0), (1, 4, 1)]:
        other = ChunkRequest(episode, chunk, base.obs)
        (actions,), _ = predict_chunks(policy, [other], seed=seed)
        assert np.abs(actions - reference).max() > 1.0
