"""What every dataset configuration has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.options import option, options


@options
class DatasetConfig(ABC):
    """Options of every dataset format; a format adds its own and says how to load."""

    name: str = option("", "dataset format")
    max_episodes: int | None = option(
        None, "read only the first so many episodes; all by default", common=True, ge=1
    )
    validation_ratio: float = option(
        0.02, "share of episodes kept for validation, 0 for none", ge=0, lt=1
    )
    split_seed: int = option(42, "seed that chooses the validation episodes", ge=0)

    @abstractmethod
    def load(self, image_cache: Path | None = None, *, quiet: bool = True) -> ReplayBuffer:
        """Read the dataset.

        Args:
            image_cache: folder for decoded images, see `lfm_policy.data.images.cache`.
            quiet: no progress bars.

        Returns:
            A validated buffer: ``"action"`` of shape (T, action_dim), then one array of shape
            (T, ...) per observation key in their configured order; images are memory-mapped.

        Raises:
            InputError: the data are absent or not what they have to be.
        """
