"""Windows of time: which steps make up one training sample."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lfm_policy.errors import InputError

if TYPE_CHECKING:
    import torch


def check_horizons(n_obs_steps: int, horizon: int, n_action_steps: int) -> None:
    """Check the three lengths against one another.

    Raises:
        InputError: one is below 1, or ``n_action_steps > horizon - n_obs_steps + 1``.
    """
    given = {"n_obs_steps": n_obs_steps, "horizon": horizon, "n_action_steps": n_action_steps}
    for name, value in given.items():
        if value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
    room = horizon - n_obs_steps + 1
    if n_action_steps > room:
        raise InputError(
            f"n_action_steps is {n_action_steps}, but a horizon of {horizon} with n_obs_steps "
            f"{n_obs_steps} leaves room for horizon - n_obs_steps + 1 = {room}: use fewer action "
            "steps or a longer horizon"
        )


def shortest_episode(n_obs_steps: int, horizon: int, n_action_steps: int) -> int:
    """Return how many steps an episode needs to give one window; see :class:`WindowIndex`."""
    return horizon - (n_obs_steps - 1) - (n_action_steps - 1)


def windows_of_lengths(
    lengths: np.ndarray, n_obs_steps: int, horizon: int, n_action_steps: int
) -> np.ndarray:
    """Return how many windows episodes of these lengths give, the same shape, int64, 0 for none."""
    shortest = shortest_episode(n_obs_steps, horizon, n_action_steps)
    return np.maximum(np.asarray(lengths, dtype=np.int64) - shortest + 1, 0)


def check_any_window(
    lengths: np.ndarray, n_obs_steps: int, horizon: int, n_action_steps: int, *, source: str
) -> None:
    """Check that at least one of the episodes, of ``lengths`` (E,) in steps, gives a window.

    Raises:
        InputError: the horizon is longer than every episode, edge frames repeated and all.
    """
    if windows_of_lengths(lengths, n_obs_steps, horizon, n_action_steps).any():
        return
    raise InputError(
        f"{source}: horizon {horizon} is longer than every episode (the longest of {len(lengths)} "
        f"has {int(np.max(lengths, initial=0))} steps; with n_obs_steps {n_obs_steps} and "
        f"n_action_steps {n_action_steps} a window needs "
        f"{shortest_episode(n_obs_steps, horizon, n_action_steps)}): use a shorter policy.horizon, "
        "a larger policy.n_action_steps or longer episodes"
    )


def warn_of_short_episodes(
    lengths: np.ndarray, n_obs_steps: int, horizon: int, n_action_steps: int, *, source: str
) -> None:
    """Warn, with their number, of episodes that give no window."""
    n_windows = windows_of_lengths(lengths, n_obs_steps, horizon, n_action_steps)
    n_short = int((n_windows == 0).sum())
    if n_short:
        warnings.warn(
            f"{source}: {n_short} of {len(lengths)} episodes are left out: they have fewer than "
            f"the {shortest_episode(n_obs_steps, horizon, n_action_steps)} steps that a window "
            f"needs (horizon {horizon}, n_obs_steps {n_obs_steps}, n_action_steps "
            f"{n_action_steps}); a shorter policy.horizon would take more of them",
            stacklevel=3,
        )


class WindowIndex:
    """Time indices of every window; windows never cross an episode and repeat its edge frames.

    With an episode of L steps, windows start at every s (relative to the episode) in
    ``-pad_before <= s <= L - horizon + pad_after`` with ``pad_before = n_obs_steps - 1`` and
    ``pad_after = n_action_steps - 1``, exactly as in Diffusion Policy; step k of a window is
    ``clip(s + k, 0, L - 1)``::

        window      s ............................................ s + horizon - 1
        observed    |-- n_obs_steps --|
        executed                     |-- n_action_steps --|      (from index n_obs_steps - 1)

    So the first window of an episode has its first frame as the whole history (as a policy right
    after its reset), and in the last one the executed actions end at the episode's end at the
    latest. An episode shorter than the horizon gives the windows that the padding allows: one
    of fewer than ``horizon - pad_before - pad_after`` steps gives none.

    Attributes:
        indices: (M, horizon) int64, time indices into the arrays of the buffer.
        obs_indices: (M, n_obs_steps) int64, the first columns of ``indices``.
    """

    def __init__(
        self,
        episode_ends: np.ndarray,
        n_obs_steps: int,
        horizon: int,
        n_action_steps: int,
        *,
        episodes: Iterable[int] | np.ndarray | None = None,
        source: str = "dataset",
    ) -> None:
        """Build the index.

        Args:
            episode_ends: (E,) cumulative and exclusive.
            n_obs_steps: frames of history.
            horizon: length of a chunk.
            n_action_steps: how much of a chunk is executed.
            episodes: the episodes to take windows from; all by default.
            source: for messages.

        Raises:
            InputError: the lengths do not fit one another, or no episode gives a window.
        """
        check_horizons(n_obs_steps, horizon, n_action_steps)
        self.n_obs_steps, self.horizon = n_obs_steps, horizon
        self.n_action_steps = n_action_steps

        ends = np.asarray(episode_ends, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        if episodes is not None:
            chosen = np.asarray(list(episodes), dtype=np.int64)
            starts, ends = starts[chosen], ends[chosen]
        lengths = ends - starts
        check_any_window(lengths, n_obs_steps, horizon, n_action_steps, source=source)

        n_windows = windows_of_lengths(lengths, n_obs_steps, horizon, n_action_steps)
        episode_of = np.repeat(np.arange(len(lengths)), n_windows)
        rank = np.arange(len(episode_of)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
        relative = (rank - (n_obs_steps - 1))[:, None] + np.arange(horizon)[None, :]
        relative = np.clip(relative, 0, (lengths[episode_of] - 1)[:, None])
        import torch  # which a look at the lengths of episodes does not need

        self.indices = torch.from_numpy(relative + starts[episode_of][:, None])
        self.obs_indices = self.indices[:, :n_obs_steps].contiguous()

    def __len__(self) -> int:
        """Return the number of windows M."""
        return len(self.indices)

    def with_history(self, n_obs_steps: int, episode_ends: np.ndarray) -> WindowIndex:
        """Return windows of the same moments with another history.

        Window w observes up to the same step as window w here, but ``n_obs_steps`` frames of it;
        its chunk begins, as ever, with the first of these.

        Args:
            n_obs_steps: frames of history.
            episode_ends: those that this index was made of.
        """
        import torch

        now = self.obs_indices[:, -1:].contiguous()
        ends = torch.from_numpy(np.asarray(episode_ends, dtype=np.int64)).to(now.device)
        episode = torch.searchsorted(ends, now, right=True)
        first = torch.cat([ends.new_zeros(1), ends])[episode]
        offsets = torch.arange(self.horizon, device=now.device) - (n_obs_steps - 1)
        other = copy.copy(self)
        other.n_obs_steps = n_obs_steps
        other.indices = torch.minimum(torch.maximum(now + offsets, first), ends[episode] - 1)
        other.obs_indices = other.indices[:, :n_obs_steps].contiguous()
        return other

    def to(self, device: str | torch.device) -> WindowIndex:
        """Return the same index with its tensors on ``device``."""
        moved = copy.copy(self)
        moved.indices = self.indices.to(device)
        moved.obs_indices = self.obs_indices.to(device)
        return moved
