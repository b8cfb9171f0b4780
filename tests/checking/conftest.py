"""Policies whose chunks are known, and demonstrations to check them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from lfm_policy.checking.demonstrations import HELD_OUT, Demonstrations, Instants, instants_of
from lfm_policy.checking.open_loop import ActionScale
from lfm_policy.checking.subject import Subject
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import DataSpec

N_OBS, HORIZON, N_ACTION = 2, 6, 3


class KnownPolicy(ChunkPolicy):
    """Horizons alone; chunks come from a `KnownSubject`."""

    def __init__(self, action_dim: int = 1, **obs_shapes: tuple[int, ...]) -> None:
        spec = DataSpec(obs_shapes, action_dim)
        super().__init__(spec, n_obs_steps=N_OBS, horizon=HORIZON, n_action_steps=N_ACTION)

    def predict_action_chunk(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


class KnownSubject(Subject):
    """Chunks by a function of the newest observations and the noise."""

    unclipped = True

    def __init__(self, instants: Instants, answer: Callable[..., np.ndarray]) -> None:
        super().__init__(instants)
        self._answer = answer

    def chunks(
        self, noise: np.ndarray, swapped: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        seen = {}
        for key in self.instants.buffer.arrays:
            rows = (swapped or {}).get(key, np.arange(len(self.instants)))
            seen[key] = self.instants.observations(rows, (key,))[key]
        return self._answer(seen, noise)


def ramps(n_episodes: int = 4, length: int = 11, dims: int = 1, slope: float = 1.0) -> ReplayBuffer:
    """Return episodes whose action is slope * step + 10 * episode in every dimension.

    ``now`` is that action, observed; ``noise`` has nothing to do with it.
    """
    steps = np.tile(np.arange(length), n_episodes)
    episode = np.repeat(np.arange(n_episodes), length)
    action = np.repeat((slope * steps + 10.0 * episode)[:, None], dims, axis=1)
    noise = np.random.default_rng(0).normal(size=(len(steps), 2))
    arrays = {"action": action, "now": action[:, :1].copy(), "noise": noise}
    return ReplayBuffer(arrays, np.arange(1, n_episodes + 1) * length, source="ramps")


def units_of(
    dims: int = 1, scale: float = 1.0, low: float = 0.0, high: float = 40.0
) -> ActionScale:
    one = np.ones(dims)
    return ActionScale(scale * one, 0 * one, low * one, high * one, 10.0 * one)


@pytest.fixture
def buffer() -> ReplayBuffer:
    return ramps()


@pytest.fixture
def instants(buffer: ReplayBuffer) -> Instants:
    return instants_of(buffer, np.arange(buffer.n_episodes), KnownPolicy())


def demonstrations_of(buffer: ReplayBuffer, kind: str = HELD_OUT) -> Demonstrations:
    episodes = np.arange(buffer.n_episodes)
    return Demonstrations(buffer, episodes, episodes, kind, "ramps, all of them")
