"""robosuite's tasks, demonstrated by scripted experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from lfm_policy.collect.options import CollectOptions
from lfm_policy.collect.stage import Observation
from lfm_policy.errors import InputError


class RobosuiteStage:
    """A task of robosuite and its expert; see `Stage`."""

    def __init__(self, options: CollectOptions) -> None:
        """Create the environment.

        Raises:
            InputError: robosuite is missing or has the wrong version.
        """
        import lfm_envs
        from lfm_envs.robosuite.env import RobosuiteEnv
        from lfm_envs.robosuite.tasks import TASKS

        task = TASKS[options.task]
        try:
            self._env = RobosuiteEnv(
                options.task,
                cameras=task.cameras if options.images else (),
                image_size=options.image_size,
            )
        except lfm_envs.MissingSimulatorError as error:
            raise InputError(str(error)) from None
        self._task = options.task
        self._expert: Any = None
        self.env_args: dict[str, Any] = self._env.env_args
        self.max_steps = task.max_episode_steps
        self.tail = (5, 10)

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode with an expert of habits drawn from ``generator``."""
        from lfm_envs.experts import make_expert

        self._expert = make_expert(self._task, generator)
        obs, _ = self._env.reset(seed=seed)
        return dict(obs)

    def restart(self, scene: dict[str, Any]) -> Observation:
        """Start from exactly a recorded state."""
        obs, _ = self._env.reset(options={"reset_to": scene})
        return dict(obs)

    def scene(self) -> dict[str, Any]:
        """Return ``states``, ``model`` and, if there is any, ``ep_meta``."""
        return dict(self._env.state())

    def act(self, obs: Observation) -> np.ndarray:
        """Return the expert's next action, as numbers that float32 represents exactly."""
        action = np.clip(self._expert.act(obs, self._env.simulator), -1.0, 1.0)
        return np.asarray(action, dtype=np.float32).astype(np.float64)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        """Act for 1/20 s."""
        obs, reward, solved, _, _ = self._env.step(action)
        return dict(obs), reward, solved

    def close(self) -> None:
        """Release the simulator."""
        self._env.close()
