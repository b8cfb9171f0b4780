"""What every dataset configuration has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.split import check_split
from lfm_policy.errors import InputError


@dataclass
class DatasetConfig(ABC):
    """Options of every dataset format; a format adds its own and says how to load."""

    name: str = field(default="", metadata={"help": "dataset format"})
    max_episodes: int | None = field(
        default=None, metadata={"help": "read only the first so many episodes; all by default"}
    )
    validation_ratio: float = field(
        default=0.02, metadata={"help": "share of episodes kept for validation, 0 for none"}
    )
    split_seed: int = field(
        default=42, metadata={"help": "seed that chooses the validation episodes"}
    )

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            InputError: one is outside its range.
        """
        check_split(self.validation_ratio, self.split_seed)
        if self.max_episodes is not None and self.max_episodes < 1:
            raise InputError(f"max_episodes is {self.max_episodes}; expected at least 1 or null")

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
