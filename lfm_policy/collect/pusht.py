"""PushT, demonstrated by the policy that comes with the package, with a trembling hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from lfm_envs.experts.tremor import next_tremor

from lfm_policy.assets import bundled_policy
from lfm_policy.collect.demonstrator import Demonstrator, Observation
from lfm_policy.collect.options import CollectOptions
from lfm_policy.policy import load_policy

_POLICY = "pusht-state-teacher"

_LARGEST_TREMOR = 6.0
"""Standard deviation in pixels of the noise on the actions of the least steady demonstrator."""

_TREMOR_MEMORY = 0.8
_BOARD = 512.0


class PushTDemonstrator(Demonstrator):
    """PushT and the bundled teacher, whose noise and tremor differ from episode to episode.

    With images the observations are those of ``lfm/PushTImage-v0`` and of ``lfm/PushT-v0``. The
    policy was not shown how to leave the block alone, so a demo ends with success.
    """

    version = 5
    image_size = 96

    def __init__(self, options: CollectOptions) -> None:
        """Create the environment and load the policy.

        Raises:
            InputError: the simulator is missing.
        """
        if options.images:
            super().__init__(options, "lfm/PushTImage-v0", image_size=options.image_size)
        else:
            super().__init__(options, "lfm/PushT-v0")
        from lfm_envs.pusht_features import state_features

        self._features = state_features
        self._policy = load_policy(bundled_policy(_POLICY), device="cpu")

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode; ``generator`` draws the policy's noise and how unsteady it is."""
        self._policy.reset()
        self._policy.sample_seed(int(generator.integers(2**31)))
        self._tremor_scale = float(generator.uniform(0.0, _LARGEST_TREMOR))
        self._tremor = np.zeros(2)
        return super().start(seed, generator)

    def restart(self, scene: dict[str, Any]) -> Observation:
        """Start from exactly a recorded state."""
        raw, _ = self.env.reset(options={"state": scene["states"]})
        return self.observe(raw)

    def scene(self) -> dict[str, Any]:
        """Return ``states``: position of the agent, position and angle of the block, (5,)."""
        return {"states": self._state()}

    def act(self, obs: Observation) -> np.ndarray:
        """Return the next action of the policy's chunk, disturbed."""
        self._tremor = next_tremor(self._tremor, self.generator, memory=_TREMOR_MEMORY)
        action = self._policy.select_action(obs) + self._tremor_scale * self._tremor
        return np.clip(action, 0.0, _BOARD).astype(np.float32).astype(np.float64)

    def observe(self, raw: Observation) -> Observation:
        """Return the features of the state, and the image if it is recorded."""
        obs = dict(self._features(self._state()))
        return obs | {"image": raw["image"]} if self.options.images else obs

    def _state(self) -> np.ndarray:
        simulated: Any = self.env.unwrapped
        return np.asarray(simulated.state, dtype=np.float64)
