"""The rule that says which values are outliers, and which dimensions they squeeze."""

from __future__ import annotations

import numpy as np

from lfm_policy.config.schema import NORMALIZATIONS
from lfm_policy.data.normalizer import MODES
from lfm_policy.data.outliers import far_outside, quantiles, squeezed


def test_quantiles_of_a_ramp() -> None:
    array = np.stack([np.arange(101.0), -np.arange(101.0)], axis=1)
    q01, q99 = quantiles(array)
    np.testing.assert_allclose(q01, [1, -99])
    np.testing.assert_allclose(q99, [99, -1])


def test_far_is_three_widths_beyond() -> None:
    values = np.array([-2.01, -1.99, 0.5, 4.99, 5.01])
    one = np.ones(1)
    assert far_outside(values, 1 * one, 2 * one).tolist() == [True, False, False, False, True]
    assert not far_outside(np.array([1e9]), one, one).any()  # a switch has no width


def test_squeezed_elements_by_key() -> None:
    rng = np.random.default_rng(0)
    force = rng.normal(size=(500, 2, 2))
    force[3, 1, 0] = -100
    gripper = np.zeros((500, 1))
    gripper[:3] = 0.08
    arrays = {
        "force": force,
        "joints": rng.uniform(-1, 1, (500, 7)).astype(np.float32),
        "gripper": gripper,
        "clock": 1.7e9 + np.arange(500.0)[:, None],
    }
    assert squeezed(arrays) == {"force": [2]}


def test_every_mode_can_be_chosen() -> None:
    assert tuple(NORMALIZATIONS) == MODES
