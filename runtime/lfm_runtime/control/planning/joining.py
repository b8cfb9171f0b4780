"""How chunks that overlap become one sequence of actions, by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque

import numpy as np

from lfm_runtime.control.planning.chunk import Chunk
from lfm_runtime.errors import InputError

_LARGEST_DECAY = 1e6


class Joining(ABC):
    """Holds the chunks that are still of use; steps count planned actions that were executed.

    Attributes:
        uses_prefix: whether the policy is told the actions that are executed meanwhile.
    """

    uses_prefix = False

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()

    @property
    def newest(self) -> Chunk | None:
        """The chunk that was added last, if it is still held."""
        return self._chunks[-1] if self._chunks else None

    def forget(self, *, observed_before: float) -> None:
        """Drop chunks whose observation is older than that."""
        while self._chunks and self._chunks[0].observed_at < observed_before:
            self._chunks.popleft()

    @abstractmethod
    def add(self, chunk: Chunk) -> None:
        """Take a new chunk, which is newer than all others."""

    @abstractmethod
    def action(self, step: int) -> np.ndarray | None:
        """Return the action for a step, (action_dim,); None if no chunk reaches it."""

    def default_lead(self, n_action_steps: int) -> int:
        """Return how many actions before the end of a chunk the next one is asked for."""
        return 0

    def upcoming(self, step: int, n: int) -> list[np.ndarray]:
        """Return the actions for ``step`` and what follows, at most n."""
        actions: list[np.ndarray] = []
        while len(actions) < n and (action := self.action(step + len(actions))) is not None:
            actions.append(action)
        return actions


class Replace(Joining):
    """A new chunk takes over at once, from the action for the present step on."""

    def add(self, chunk: Chunk) -> None:
        """Drop the old chunk for the new one."""
        self._chunks = deque([chunk])

    def action(self, step: int) -> np.ndarray | None:
        """Return the newest chunk's action."""
        return self._chunks[0].at(step) if self._chunks else None


class Prefix(Replace):
    """As `Replace`; the policy is given the actions executed meanwhile and continues them.

    The policy must have been trained with prefixes. Its chunk then begins with exactly these
    actions, so there is no jump where it takes over.
    """

    uses_prefix = True


class Ensemble(Joining):
    """Temporal ensembling (ACT): the weighted mean of all chunks that reach a step.

    The i-th of them, the oldest being 0, has the weight exp(-decay * i): a positive ``decay``
    trusts old chunks more, a negative one new chunks. Chunks are asked for one after the other.
    """

    def __init__(self, decay: float = 0.01) -> None:
        """Build it.

        Raises:
            InputError: ``decay`` is not finite.
        """
        super().__init__()
        if not math.isfinite(decay):
            raise InputError(f"the decay of the ensemble is {decay}, expected a finite number")
        # Beyond that all weights but one are 0 anyway.
        self._decay = min(max(decay, -_LARGEST_DECAY), _LARGEST_DECAY)

    def add(self, chunk: Chunk) -> None:
        """Take one more chunk; those that end before it begins are dropped."""
        reaching = [c for c in self._chunks if c.start + len(c) > chunk.start]
        self._chunks = deque([*reaching, chunk])

    def action(self, step: int) -> np.ndarray | None:
        """Return the weighted mean; None where the newest chunk does not reach."""
        if not self._chunks or self._chunks[-1].at(step) is None:
            return None
        actions = [action for chunk in self._chunks if (action := chunk.at(step)) is not None]
        exponents = -self._decay * np.arange(len(actions))
        # The largest weight is 1: none is infinite, and they are never all 0.
        weights = np.exp(exponents - exponents.max())
        mean = np.average(np.stack(actions), axis=0, weights=weights)
        return np.asarray(mean, dtype=actions[0].dtype)

    def default_lead(self, n_action_steps: int) -> int:
        """Return the lead with which a new chunk is asked for at every step."""
        return n_action_steps - 1


JOININGS = ("replace", "ensemble", "prefix")
"""Names of all ways to join chunks."""


def create_joining(name: str, *, ensemble_decay: float = 0.01) -> Joining:
    """Return a new, empty joining.

    Raises:
        InputError: there is none of that name, or ``ensemble_decay`` is not finite.
    """
    if name not in JOININGS:
        raise InputError(f"unknown joining of chunks '{name}': known: {', '.join(JOININGS)}")
    if name == "ensemble":
        return Ensemble(ensemble_decay)
    return Prefix() if name == "prefix" else Replace()
