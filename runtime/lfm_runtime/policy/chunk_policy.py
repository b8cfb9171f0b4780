"""What every policy does whatever computes its chunks: history, queue, seeds, bad input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.policy.observations import checked_batch, checked_frames, remember, stacked
from lfm_runtime.policy.spec import TASK_KEY, DataSpec, is_image
from lfm_runtime.policy.tasks import one_hot, task_name, told, told_batch


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
        max_prefix: most committed actions that a chunk can be made to continue.
        digest: SHA-256 that tells this policy's weights and normaliser from others'; empty:
            unknown.
    """

    max_prefix: int = 0
    digest: str = ""

    def __init__(
        self, spec: DataSpec, *, n_obs_steps: int, horizon: int, n_action_steps: int
    ) -> None:
        self.spec = spec
        self.n_obs_steps = n_obs_steps
        self.horizon = horizon
        self.n_action_steps = n_action_steps
        self._task: str | None = None
        self._seed: tuple[int, int] | None = None
        self._chunks_drawn = 0
        self._history: deque[Frame] = deque(maxlen=n_obs_steps)
        self._queue: deque[np.ndarray] = deque()

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each chunk; may be changed, from the next chunk on.

        Raises:
            InputError: set to less than 1, or to more than ``horizon - n_obs_steps + 1`` (of a
                server's policy: to more than its answers hold).
        """
        return self._n_action_steps

    @n_action_steps.setter
    def n_action_steps(self, steps: int) -> None:
        longest = self._longest_execution()
        if not 1 <= steps <= longest:
            raise InputError(
                f"n_action_steps is {steps}, expected 1 to {longest}: a chunk has {self.horizon} "
                f"actions, of which those of earlier observations (n_obs_steps {self.n_obs_steps}) "
                "are never executed"
            )
        self._n_action_steps = steps

    @property
    def task(self) -> str | None:
        """Which of ``spec.tasks`` to do where observations do not say it; None: they have to.

        Set by name or by number, before an episode.

        Raises:
            InputError: set to a task that the policy does not know.
        """
        return self._task

    @task.setter
    def task(self, task: str | int | None) -> None:
        self._task = task_name(self.spec, task)

    def _longest_execution(self) -> int:
        """Return how many actions of a chunk can be executed at most."""
        return self.horizon - self.n_obs_steps + 1

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """Shape of one chunk, (horizon, action_dim)."""
        return self.horizon, self.spec.action_dim

    @property
    def metadata(self) -> dict[str, Any]:
        """What a caller has to know: shapes, dtypes and the horizons; plain JSON values."""
        tasks = {"tasks": list(self.spec.tasks)} if self.spec.tasks else {}
        return {
            "observations": {
                key: {"shape": list(shape), "dtype": self.spec.dtype(key)}
                | ({"depth": list(self.spec.depth[key])} if key in self.spec.depth else {})
                for key, shape in self.spec.obs_shapes.items()
            },
            "action_dim": self.spec.action_dim,
            "action_dtype": self.spec.dtype("action"),
            "n_obs_steps": self.n_obs_steps,
            "horizon": self.horizon,
            "n_action_steps": self.n_action_steps,
            "max_prefix": self.max_prefix,
            **tasks,
        }

    # -- noise --------------------------------------------------------------------------------

    def sample_seed(self, seed: int | None, episode: int = 0) -> None:
        """Make the noise reproducible: chunk k since then depends only on (seed, episode, k).

        Args:
            seed: of the noise; None goes back to noise that differs every time.
            episode: number of the episode; row r of a batch has the noise of ``episode`` + r.

        Raises:
            InputError: a negative seed or episode.
        """
        if seed is not None and (seed < 0 or episode < 0):
            raise InputError(f"seed is {seed} and episode {episode}, expected no negative number")
        self._seed = None if seed is None else (int(seed), int(episode))
        self._chunks_drawn = 0

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
                ignored. Under ``task`` a policy of several tasks also takes a name or a number;
                left out, it is `task`.

        Raises:
            InputError: an observation is missing, has another shape, or is not finite.
            FloatingPointError: the sampled action is not finite; it never reaches a robot.
        """
        seen = told(obs, self.spec, self._task)
        remember(self._history, Frame(checked_frames(seen, self.spec, self._plain)))
        if not self._queue:
            # Copies, each of its own: a policy may compute all chunks in one array, and a robot
            # may write into its action.
            chunk = self._actions_of_history(tuple(self._history))
            self._queue.extend(np.array(action) for action in chunk)
        return self._queue.popleft()

    def fake_obs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Return a random valid observation: one frame, within the training range.

        float32 (float64 where `DataSpec.dtype` says so), or uint8 for camera images.

        Args:
            seed: of the random numbers.
        """
        generator = np.random.default_rng(seed)
        obs = {}
        for key, shape in self.spec.obs_shapes.items():
            if is_image(shape):
                obs[key] = generator.integers(0, 256, shape, dtype=np.uint8)
                continue
            if key == TASK_KEY and self.spec.tasks:
                obs[key] = one_hot(self.spec.tasks, int(generator.integers(len(self.spec.tasks))))
                continue
            low, high = self.training_range(key)
            obs[key] = generator.uniform(low, high, shape).astype(self.spec.dtype(key))
        return obs

    def fake_batch(self, n_rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
        """Return random valid histories, each (n_rows, n_obs_steps, *shape), of `fake_obs`.

        Args:
            n_rows: rows of the batch.
            seed: of the random numbers.
        """
        frames = [self.fake_obs(seed + i) for i in range(n_rows * self.n_obs_steps)]
        return {
            key: value.reshape(n_rows, self.n_obs_steps, *self.spec.obs_shapes[key])
            for key, value in stacked(frames).items()
        }

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
    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values in training of an observation, no image."""

    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return the actions to execute, (n_action_steps, action_dim), oldest frame first."""
        history = stacked(frame.obs for frame in frames)
        batch = {key: value[None] for key, value in history.items()}
        actions: np.ndarray = self.predict_action_chunk(batch)[0]
        return actions

    def _plain(self, value: Any) -> Any:
        """Return what numpy can read; for subclasses that take other arrays too."""
        return value

    # -- what subclasses use ------------------------------------------------------------------

    def _checked_batch(self, batch: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
        """Return a copy of a batch of histories, and its number of rows.

        Raises:
            InputError: as `checked_batch`.
        """
        seen = told_batch(batch, self.spec, self._task, self.n_obs_steps)
        obs = checked_batch(seen, self.spec, self._plain, n_obs_steps=self.n_obs_steps)
        return obs, len(next(iter(obs.values()))) if obs else 1

    def _padded_prefix(self, prefix: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the actions and the mask of a prefix; see `padded_prefix`."""
        return padded_prefix(
            None if prefix is None else self._plain(prefix),
            n_rows=n_rows,
            max_prefix=self.max_prefix,
            spec=self.spec,
        )

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

    def _executed(self, chunk: Any) -> Any:
        """Return the actions to execute of chunks (B, horizon, action_dim)."""
        first = self.n_obs_steps - 1
        return chunk[:, first : first + self.n_action_steps]


def chunk_noise(seed: int, episode: int, chunk: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the standard normal noise of one chunk, shape ``shape``, float32.

    Depends on nothing but its arguments: not on the batch, the device or the number of
    environments.

    Args:
        seed: seed of the evaluation, not negative.
        episode: number of the episode, not negative.
        chunk: number k of the chunk within the episode, not negative.
        shape: shape of one chunk, (horizon, action_dim).
    """
    generator = np.random.Generator(
        np.random.Philox(np.random.SeedSequence((seed, episode, chunk)))
    )
    return generator.standard_normal(shape, dtype=np.float32)


def padded_prefix(
    prefix: Any, *, n_rows: int, max_prefix: int, spec: DataSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Return a prefix in the shape that a policy takes, and which of its actions are there.

    Args:
        prefix: (n_rows, d, action_dim) with d at most ``max_prefix``, in the robot's units; None
            stands for d = 0.
        n_rows: rows of the batch.
        max_prefix: longest prefix that the policy was trained with.
        spec: of the policy.

    Returns:
        (n_rows, max_prefix, action_dim) of ``spec.dtype("action")``, the prefix and then zeros;
        and (n_rows, max_prefix) float32, 1 where there is an action.

    Raises:
        InputError: it has another shape, is too long, or is not finite.
    """
    values = np.zeros((n_rows, max_prefix, spec.action_dim), dtype=spec.dtype("action"))
    mask = np.zeros((n_rows, max_prefix), dtype=np.float32)
    if prefix is None:
        return values, mask
    given = np.asarray(prefix)
    if (
        given.dtype.kind not in "fiu"
        or given.ndim != 3
        or given.shape[::2] != (n_rows, spec.action_dim)
    ):
        raise InputError(
            f"prefix has shape {given.shape} and dtype {given.dtype}, expected numbers of shape "
            f"({n_rows}, d, {spec.action_dim}): batch, actions, one action"
        )
    length = given.shape[1]
    if length > max_prefix:
        raise InputError(
            f"prefix has {length} actions, but the policy was trained with at most {max_prefix}; "
            "give fewer, or train with a larger policy.max_prefix"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        values[:, :length] = given
    if not np.isfinite(values).all():
        raise InputError("prefix contains NaN or infinity")
    mask[:, :length] = 1
    return values, mask
