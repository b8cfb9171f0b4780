"""Policies that come with the package act as they did when the expected chunks were written.

``expected_chunks.npz`` was written by ``python tests/assets/test_chunks.py``; it is written again
only when a bundled policy is trained again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfm_policy import Policy, load_policy
from lfm_policy.assets import POLICIES

EXPECTED = Path(__file__).with_name("expected_chunks.npz")
SAMPLERS = {
    "as configured": {},
    "euler, less noise": {"solver": "euler", "nfe": 8, "noise_scale": 0.5},
    "heun": {"solver": "heun", "nfe": 8},
    "midpoint": {"solver": "midpoint", "nfe": 8},
    "dopri5": {"solver": "dopri5"},
}
ROWS, STEPS = 3, 10


def chunks(policy: Policy) -> np.ndarray:
    """Return the chunks of a small batch, (ROWS, horizon, action_dim)."""
    policy.sample_seed(5, episode=3)
    return policy.sample(policy.fake_batch(ROWS)).chunk.numpy()


def actions(policy: Policy) -> np.ndarray:
    """Return the actions of more than one chunk, (STEPS, action_dim)."""
    policy.sample_seed(7, episode=1)
    policy.reset()
    return np.stack([policy.select_action(policy.fake_obs(seed)) for seed in range(STEPS)])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", POLICIES)
def test_chunks_and_actions_are_those_of_before(name: str, sampler: str) -> None:
    policy = load_policy(name)
    policy.set_sampler(**SAMPLERS[sampler])  # type: ignore[arg-type]
    action = policy.normalizer["action"]
    # On one processor they are the same to the bit; on another, sums are made in another order,
    # which is 1e-7 of the range of an action. dopri5 chooses its steps by what it computes.
    tolerance = (action.max - action.min).numpy() * (1e-4 if sampler == "dopri5" else 1e-6)
    with np.load(EXPECTED) as expected:
        for what, found in (("chunks", chunks(policy)), ("actions", actions(policy))):
            before = expected[f"{name}, {sampler}, {what}"]
            assert found.dtype == before.dtype and found.shape == before.shape
            assert (np.abs(found - before) <= tolerance).all(), what


def write() -> None:
    """Write the expected chunks."""
    found = {}
    for name in POLICIES:
        policy = load_policy(name)
        for sampler, options in SAMPLERS.items():
            policy.set_sampler(**options)  # type: ignore[arg-type]
            found[f"{name}, {sampler}, chunks"] = chunks(policy)
            found[f"{name}, {sampler}, actions"] = actions(policy)
    np.savez_compressed(EXPECTED, **found)


if __name__ == "__main__":
    write()
