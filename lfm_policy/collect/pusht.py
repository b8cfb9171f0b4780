"""PushT, demonstrated by the policy that comes with the package, with a trembling hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lfm_policy.assets import bundled_policy
from lfm_policy.collect.options import CollectOptions
from lfm_policy.collect.stage import Observation
from lfm_policy.errors import InputError
from lfm_policy.policy import chunk_noise, load_policy

_POLICY = "pusht-state-teacher"
_GYM = 2
"""robomimic's number for environments of gym."""

_LARGEST_TREMOR = 6.0
"""Standard deviation in pixels of the noise on the actions of the least steady demonstrator."""

_TREMOR_MEMORY = 0.8
_MAX_STEPS = 300
_BOARD = 512.0


class PushTStage:
    """PushT and the bundled teacher, whose noise and tremor differ from episode to episode.

    With images the observations are those of ``lfm/PushTImage-v0`` and of ``lfm/PushT-v0``.
    """

    def __init__(self, options: CollectOptions) -> None:
        """Create the environment and load the policy.

        Raises:
            InputError: the simulator is missing.
        """
        import lfm_envs
        from lfm_envs.pusht import PushTEnv, PushTImageEnv
        from lfm_envs.pusht_features import state_features

        self._features = state_features
        self._images = options.images
        try:
            self._env: Any = (
                PushTImageEnv(image_size=options.image_size) if options.images else PushTEnv()
            )
        except lfm_envs.MissingSimulatorError as error:
            raise InputError(str(error)) from None
        self._policy = load_policy(bundled_policy(_POLICY), device="cpu")
        name = "lfm/PushTImage-v0" if options.images else "lfm/PushT-v0"
        kwargs = {"image_size": options.image_size} if options.images else {}
        self.env_args: dict[str, Any] = {
            "env_name": name,
            "env_version": "0",
            "type": _GYM,
            "env_kwargs": kwargs,
        }
        self.max_steps = _MAX_STEPS
        self.tail = (0, 0)  # the policy was not shown how to leave the block alone

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode; ``generator`` draws the policy's noise and how unsteady it is."""
        self._generator = generator
        self._noise_seed = int(generator.integers(2**31))
        self._tremor_scale = float(generator.uniform(0.0, _LARGEST_TREMOR))
        self._tremor = np.zeros(2)
        self._history: list[Observation] = []
        self._planned: list[np.ndarray] = []
        self._chunks = 0
        raw, _ = self._env.reset(seed=seed)
        return self._observe(raw)

    def restart(self, scene: dict[str, Any]) -> Observation:
        """Start from exactly a recorded state."""
        raw, _ = self._env.reset(options={"state": scene["states"]})
        return self._observe(raw)

    def scene(self) -> dict[str, Any]:
        """Return ``states``: position of the agent, position and angle of the block, (5,)."""
        return {"states": np.asarray(self._env.state, dtype=np.float64)}

    def act(self, obs: Observation) -> np.ndarray:
        """Return the next action of the policy's chunk, disturbed."""
        self._history = [*self._history, obs][-self._policy.n_obs_steps :]
        if not self._planned:
            self._planned = self._plan()
        fresh = self._generator.normal(size=2) * np.sqrt(1 - _TREMOR_MEMORY**2)
        self._tremor = _TREMOR_MEMORY * self._tremor + fresh
        action = self._planned.pop(0) + self._tremor_scale * self._tremor
        return np.clip(action, 0.0, _BOARD).astype(np.float32).astype(np.float64)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Act for 0.1 s."""
        raw, reward, solved, _, _ = self._env.step(action)
        return self._observe(raw), reward, solved

    def close(self) -> None:
        """Release the simulator."""
        self._env.close()

    def _observe(self, raw: Observation) -> Observation:
        obs = dict(self._features(self._env.state))
        return obs | {"image": raw["image"]} if self._images else obs

    def _plan(self) -> list[np.ndarray]:
        policy = self._policy
        missing = policy.n_obs_steps - len(self._history)
        history = [self._history[0]] * missing + self._history
        batch = {
            key: np.stack([frame[key] for frame in history])[None] for key in policy.spec.obs_shapes
        }
        noise = chunk_noise(self._noise_seed, 0, self._chunks, policy.model.chunk_shape)
        self._chunks += 1
        with torch.no_grad():
            chunk = policy.sample(batch, noise=noise[None]).chunk[0].cpu().numpy()
        first = policy.n_obs_steps - 1
        return list(chunk[first : first + policy.n_action_steps])
