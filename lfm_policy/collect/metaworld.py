"""Meta-World's tasks, demonstrated by its own scripted experts, every time otherwise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from lfm_envs.experts.tremor import next_tremor

from lfm_policy.collect.demonstrator import Demonstrator, Observation
from lfm_policy.collect.options import CollectOptions
from lfm_policy.errors import InputError

_TREMOR_MEMORY = 0.8

_MOMENTARY = ("handle-press-v3", "handle-press-side-v3")
"""Tasks that do not stay solved: what was pressed springs back."""


class MetaWorldDemonstrator(Demonstrator):
    """A task of Meta-World and its expert, who is slower or quicker, trembles and starts elsewhere.

    The hand has gone to another place before the episode begins; that way is not recorded. Actions
    are recorded as they were done, noise included.
    """

    tail = (4, 8)

    def __init__(
        self,
        options: CollectOptions,
        noise: float = 0.08,
        slowest: float = 0.85,
        start: float = 0.03,
    ) -> None:
        """Create the environment.

        Args:
            options: what is collected.
            noise: standard deviation of the noise on motions of the least steady expert, of the
                largest motion.
            slowest: speed of the slowest expert, of what Meta-World's does.
            start: how far from its place the hand may start, in metres along each axis.

        Raises:
            InputError: metaworld is missing, or an argument is out of its range.
        """
        for name, value, high in (
            ("noise", noise, 1),
            ("slowest", slowest, 1),
            ("start", start, 1),
        ):
            if not 0 <= value <= high:
                raise InputError(f"expert option {name} is {value}, expected 0 to {high}")
        kind = "Image" if options.images else ""
        arguments = {"image_size": options.image_size} if options.images else {}
        super().__init__(options, f"lfm/MetaWorld{kind}-{options.task}", **arguments)
        from lfm_envs.metaworld.env import import_metaworld

        _, experts = import_metaworld()
        self._expert: Any = experts.ENV_POLICY_MAP[options.task]()
        self._simulated: Any = self.env.unwrapped
        self.task = options.task
        self._noise, self._slowest, self._start = noise, slowest, start
        if options.task in _MOMENTARY:
            self.tail = (0, 0)

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        """Start an episode; ``generator`` draws speed, tremor and where the hand starts."""
        self.generator = generator
        self._speed = float(generator.uniform(self._slowest, 1.0))
        self._tremor_scale = float(generator.uniform(0.0, self._noise))
        self._tremor = np.zeros(3)
        offset = generator.uniform(-self._start, self._start, size=3)
        raw, _ = self.env.reset(seed=seed, options={"hand": offset})
        return self.observe(raw)

    def act(self, obs: Observation) -> np.ndarray:
        """Return the expert's next action, as numbers that float32 represents exactly."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its motions are often larger than 1, and cut off
            action = np.clip(self._expert.get_action(self._simulated.state), -1.0, 1.0)
        self._tremor = next_tremor(self._tremor, self.generator, memory=_TREMOR_MEMORY)
        action[:3] = self._speed * action[:3] + self._tremor_scale * self._tremor
        return np.clip(action, -1.0, 1.0).astype(np.float32).astype(np.float64)
