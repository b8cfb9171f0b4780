"""robosuite's tasks, demonstrated by scripted experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from lfm_policy.collect.demonstrator import Demonstrator, Observation
from lfm_policy.collect.options import CollectOptions


class RobosuiteDemonstrator(Demonstrator):
    """A task of robosuite and its expert, whose habits differ from episode to episode."""

    version = 2
    tail = (5, 10)

    def __init__(self, options: CollectOptions) -> None:
        """Create the environment.

        Raises:
            InputError: robosuite is missing or has the wrong version.
        """
        kind = "Image" if options.images else ""
        super().__init__(options, f"lfm/{options.task}{kind}-v0", image_size=options.image_size)
        self._robosuite: Any = self.env.unwrapped
        self.env_args = self._robosuite.env_args
        self._expert: Any = None

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode with an expert of habits drawn from ``generator``."""
        from lfm_envs.experts import EXPERTS

        self._expert = EXPERTS.make(self.options.task, generator)
        return super().start(seed, generator)

    def restart(self, scene: dict[str, Any]) -> Observation:
        """Start from exactly a recorded state."""
        raw, _ = self.env.reset(options={"reset_to": scene})
        return self.observe(raw)

    def scene(self) -> dict[str, Any]:
        """Return ``states``, ``model`` and, if there is any, ``ep_meta``."""
        return dict(self._robosuite.state())

    def act(self, obs: Observation) -> np.ndarray:
        """Return the expert's next action, as numbers that float32 represents exactly."""
        action = np.clip(self._expert.act(obs, self._robosuite.simulator), -1.0, 1.0)
        return np.asarray(action, dtype=np.float32).astype(np.float64)
