"""Observations computed from what a dataset stores, by the code the environment uses too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lfm_policy.errors import InputError
from lfm_runtime.registry import Registry


@dataclass(frozen=True)
class Derivation:
    """A function from stored arrays to observation arrays, both time first.

    Attributes:
        inputs: stored arrays that it needs.
        outputs: observation arrays that it gives.
        function: maps the inputs, each (T, ...), to the outputs, each (T, ...) float32.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs for ``arrays``, which holds the inputs."""
        return self.function(arrays)


def _pusht(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    # here and not above: a dataset that derives nothing needs no environments package
    from lfm_envs.pusht_features import state_features

    state = arrays["state"]
    if state.ndim != 2 or state.shape[1] != 5:
        raise InputError(
            f"derive=pusht: state has shape {state.shape}; expected (steps, 5): agent x, agent y, "
            "block x, block y in pixels and the block's angle in radians"
        )
    features = state_features(state)
    return {key: np.ascontiguousarray(features[key], dtype=np.float32) for key in PUSHT.outputs}


PUSHT = Derivation(
    inputs=("state",), outputs=("agent_pos", "block_pose", "keypoints"), function=_pusht
)

DERIVATIONS: Registry[Derivation] = Registry("derivation", {"pusht": PUSHT})
