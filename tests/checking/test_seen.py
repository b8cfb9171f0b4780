"""What a policy looks at, and whether it is told its last action."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lfm_policy.checking.demonstrations import Instants, instants_of
from lfm_policy.checking.seen import copies_of_last_action, partners, shuffled_keys

from .conftest import HORIZON, N_OBS, KnownPolicy, KnownSubject, ramps, units_of


def follows_now(seen: dict[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Return the demonstrated ramps: the newest ``now`` and on by 1 per step."""
    return seen["now"][:, -1:, :] + (np.arange(HORIZON) - (N_OBS - 1))[:, None]


def test_only_what_is_looked_at_matters(instants: Instants) -> None:
    noise = np.zeros(instants.demonstrated.shape, np.float32)
    subject = KnownSubject(instants, follows_now)
    now, other = shuffled_keys(subject, ("now", "noise"), noise, units_of(), seed=0)
    assert now.key == "now" and now.moved == pytest.approx(1) and now.increase > 5
    assert now.interval.low > 0
    assert other.moved == 0 and other.increase == 0 and other.interval == (0, 0)


def test_a_policy_that_sees_nothing(instants: Instants) -> None:
    noise = np.random.default_rng(0).normal(size=instants.demonstrated.shape).astype(np.float32)
    subject = KnownSubject(instants, lambda seen, noise: noise.astype(float))
    found = shuffled_keys(subject, ("now", "noise"), noise, units_of(), seed=0)
    assert [entry.moved for entry in found] == [0, 0]


def test_partners_are_of_other_episodes() -> None:
    episode = np.repeat([3, 5, 9], [4, 1, 7])
    partner = partners(episode, seed=1)
    assert (episode[partner] != episode).all() and len(set(partner.tolist())) > 3
    alone = partners(np.full(5, 2), seed=1)  # there is no other
    assert ((alone >= 0) & (alone < 5)).all()


def test_copies_of_the_last_action() -> None:
    buffer = ramps(6, 30, dims=2)
    generator = np.random.default_rng(0)
    action = buffer.arrays["action"] + generator.normal(size=(buffer.n_steps, 2))
    before = np.roll(action[:, 1:], 1, axis=0)
    arrays = {
        "action": action,
        "told": np.column_stack([generator.normal(size=len(before)), 3 * before - 7]),
        "near": before + generator.normal(size=before.shape),
        "image": np.zeros((len(before), 4, 4, 3), np.uint8),
    }
    buffer = replace(buffer, arrays=arrays)
    instants = instants_of(buffer, np.arange(6), KnownPolicy(2))
    # Whatever its scale; what is only near it, as a joint is to its target, does not count.
    assert copies_of_last_action(instants, ("told", "near", "image")) == {"told": [1]}
