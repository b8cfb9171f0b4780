"""What every policy does whatever computes its chunks: history, queue, seeds, bad observations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.policy.history import History
from lfm_runtime.policy.noise import chunk_noise
from lfm_runtime.policy.observations import checked_frames, is_image
from lfm_runtime.policy.spec import DataSpec


@dataclass(eq=False)
class Frame:
    """One observation of the history, and what has been made of it already."""

    obs: dict[str, np.ndarray]
    encoded: Any = None


class ChunkPolicy(ABC):
    """A policy that executes the first actions of every chunk it predicts.

    Of a chunk of ``horizon`` actions, that at index ``n_obs_steps`` - 1 belongs to the newest
    observation; from there ``n_action_steps`` are executed.

    Attributes:
        spec: names and shapes of the observations, size of an action.
        n_obs_steps: frames of observation history.
        horizon: actions of a chunk.
        n_action_steps: actions executed of each chunk.
    """

    def __init__(
        self, spec: DataSpec, *, n_obs_steps: int, horizon: int, n_action_steps: int
    ) -> None:
        self.spec = spec
        self.n_obs_steps = n_obs_steps
        self.horizon = horizon
        self.n_action_steps = n_action_steps
        self._seed: tuple[int, int] | None = None
        self._chunks_drawn = 0
        self._history: History[Frame] = History(n_obs_steps)
        self._queue: deque[np.ndarray] = deque()

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """Shape of one chunk, (horizon, action_dim)."""
        return self.horizon, self.spec.action_dim

    @property
    def max_prefix(self) -> int:
        """Most committed actions that a chunk can be made to continue."""
        return 0

    @property
    def digest(self) -> str:
        """SHA-256 that tells this policy's weights and normaliser from others'; empty: unknown."""
        return ""

    @property
    def metadata(self) -> dict[str, Any]:
        """What a caller has to know: shapes, dtypes and the horizons; plain JSON values."""
        return {
            "observations": {
                key: {"shape": list(shape), "dtype": self.spec.dtype(key)}
                for key, shape in self.spec.obs_shapes.items()
            },
            "action_dim": self.spec.action_dim,
            "action_dtype": self.spec.dtype("action"),
            "n_obs_steps": self.n_obs_steps,
            "horizon": self.horizon,
            "n_action_steps": self.n_action_steps,
            "max_prefix": self.max_prefix,
        }

    # -- noise --------------------------------------------------------------------------------

    def sample_seed(self, seed: int | None, episode: int = 0) -> None:
        """Make the noise reproducible: chunk k since then depends only on (seed, episode, k).

        ``None`` goes back to noise that differs every time.

        Raises:
            InputError: a negative seed or episode.
        """
        if seed is not None and (seed < 0 or episode < 0):
            raise InputError(f"seed is {seed} and episode {episode}, expected no negative number")
        self._seed = None if seed is None else (seed, episode)
        self._chunks_drawn = 0

    def _seeded_noise(self, n_rows: int) -> np.ndarray | None:
        """Return the noise of the next chunk, (n_rows, horizon, action_dim); None: no seed."""
        if self._seed is None:
            return None
        seed, episode = self._seed
        noise = np.empty((n_rows, *self.chunk_shape), dtype=np.float32)
        # Row r of a batch stands for episode + r, so that a batch draws what its rows would alone.
        for r in range(n_rows):
            noise[r] = chunk_noise(seed, episode + r, self._chunks_drawn, self.chunk_shape)
        self._chunks_drawn += 1
        return noise

    # -- one robot ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the history and the queued actions; call at the start of an episode.

        After `sample_seed`, the noise starts again with chunk 0 of the same episode; call
        `sample_seed` too for the noise of another one.
        """
        self._history.clear()
        self._queue.clear()
        self._chunks_drawn = 0

    def select_action(self, obs: Mapping[str, Any]) -> np.ndarray:
        """Return the next action, (action_dim,), given the newest observation.

        float32, or float64 where ``spec.dtype("action")`` says so.

        The first observation after `reset` fills the whole history. A new chunk is sampled when
        the last one has been executed.

        Args:
            obs: observations by name, each of shape ``spec.obs_shapes[name]``; other names are
                ignored.

        Raises:
            InputError: an observation is missing, has another shape, or is not finite.
            FloatingPointError: the sampled action is not finite; it never reaches a robot.
        """
        self._history.add(self._frame(obs))
        if not self._queue:
            # Copies, each of its own: a policy may compute all chunks in one array, and a robot
            # may write into its action.
            chunk = self._actions_of_history(self._history.frames)
            self._queue.extend(np.array(action) for action in chunk)
        return self._queue.popleft()

    def fake_obs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Return a random valid observation: one frame, within the training range.

        float32 (float64 where `DataSpec.dtype` says so), or uint8 for camera images.
        """
        generator = np.random.default_rng(seed)
        obs = {}
        for key, shape in self.spec.obs_shapes.items():
            if is_image(shape):
                obs[key] = generator.integers(0, 256, shape, dtype=np.uint8)
                continue
            low, high = self._training_range(key)
            obs[key] = generator.uniform(low, high, shape).astype(self.spec.dtype(key))
        return obs

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values in training of an observation, no image."""
        return self._training_range(key)

    # -- what a subclass provides -------------------------------------------------------------

    @abstractmethod
    def predict_action_chunk(self, batch: Mapping[str, Any]) -> Any:
        """Return the actions to execute, (B, n_action_steps, action_dim).

        Args:
            batch: observations by name, each (B, n_obs_steps, *shape), in the units of the
                demonstrations.

        Raises:
            InputError: an observation is missing, has another shape, or is not finite.
            FloatingPointError: the sampled action is not finite; it never reaches a robot.
        """

    @abstractmethod
    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return the actions to execute, (n_action_steps, action_dim), oldest frame first."""

    @abstractmethod
    def _training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values of an observation in training."""

    def _plain(self, value: Any) -> Any:
        """Return what numpy can read; for subclasses that take other arrays too."""
        return value

    def _frame(self, obs: Mapping[str, Any]) -> Frame:
        return Frame(checked_frames(obs, self.spec, self._plain))

    def _executed(self, chunk: Any) -> Any:
        """Return the actions to execute of chunks (B, horizon, action_dim)."""
        first = self.n_obs_steps - 1
        return chunk[:, first : first + self.n_action_steps]
