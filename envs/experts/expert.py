"""What every scripted expert has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hand import Hand, Script, Style


class Expert:
    """Demonstrates one episode of a task; make a new one for every episode.

    It reads the poses of bodies from the simulator, which a policy cannot. Its behaviour is
    determined by the generator it gets and by the simulator.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.style = Style.draw(generator)
        self._script: Script | None = None
        self._idle: list[Hand] = []

    def act(self, obs: Mapping[str, Any], simulator: Any) -> NDArray[np.float64]:
        """Return the next action: (7,) per arm, one after the other, from -1 to 1.

        Args:
            obs: observation of the environment; not needed by experts that read the simulator.
            simulator: the robosuite environment, after its reset.
        """
        if self._script is None:
            self._idle = [
                Hand(simulator, index, self.style, self.generator)
                for index in range(len(simulator.robots))
            ]
            self._script = self.script(simulator, *self._idle)
        action = next(self._script, None)
        if action is None:  # the script is over, perhaps without success
            action = np.concatenate([hand.still() for hand in self._idle])
        return action

    def script(self, simulator: Any, *hands: Hand) -> Script:
        """Yield the actions of the episode, (7,) per arm, of attempts until one succeeds."""
        (hand,) = hands
        while True:
            yield from self.attempt(simulator, hand)
            while simulator._check_success():
                yield hand.still()

    def attempt(self, simulator: Any, hand: Hand) -> Script:
        """Yield the actions of one attempt of a robot with one arm."""
        raise NotImplementedError
