"""What a dataset format is: its options, how it is recognised, read, looked at and written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError
from lfm_policy.options import option, options

if TYPE_CHECKING:
    from lfm_policy.data.images.video_writer import ImageLoss
    from lfm_policy.data.tools.contents import Contents


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset says besides its arrays.

    Attributes:
        fps: steps per second; None where it does not say.
        env_args: description of the environment, as robomimic's files have it; None for none.
    """

    fps: float | None = None
    env_args: dict[str, Any] | None = None


@dataclass(frozen=True)
class WriteOptions(DatasetFacts):
    """What a writer may need besides the data.

    Attributes:
        task: what the demonstrations show, in words.
        crf: quality of videos, 0 (best) to 51.
        quiet: no progress bars.
    """

    task: str = "demonstration"
    crf: int = 18
    quiet: bool = True


@dataclass(frozen=True)
class RecordedIn:
    """The environment in which demonstrations were recorded, as they say it.

    Attributes:
        env_id: gymnasium id; empty where it is not known.
        variants: ids of the same environment with other observations.
        options: arguments of the environment.
        problem: why it is not known, in words.
        damaged: whether that is because what they say does not parse.
    """

    env_id: str = ""
    variants: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    damaged: bool = False


@options
class DatasetConfig(ABC):
    """Options of every dataset format; a format adds its own and says how to load.

    A new format is one file (or folder) with such a subclass, and its line in `DATASET_FORMATS`.
    Only `load` has to be there; with an option ``path`` and `detects`, ``inspect`` and
    ``convert`` read it, too.
    """

    recognised_as: ClassVar[str] = ""
    """What it looks like, in words, for who names a path that is nothing of the kind."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Ends of the names of its files, lower case; ``convert`` writes such names so."""

    needs_fps: ClassVar[bool] = False
    """Whether `write` needs the steps per second."""

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

    def recorded_in(self) -> RecordedIn | None:
        """Return the environment that the demonstrations tell of.

        None for a format that never does, and where the data are not there: what is wrong with
        them is said by who loads them.
        """
        return None

    @classmethod
    def detects(cls, path: Path) -> bool:
        """Whether something that exists is of this format, by its name and first bytes alone."""
        return path.suffix.lower() in cls.suffixes

    @classmethod
    def contents(cls, path: Path) -> Contents:
        """Return what is there, for ``inspect``; by default all that `load` reads of itself.

        Raises:
            InputError: it is damaged.
        """
        from lfm_policy.data.tools.contents import LoadedContents

        return LoadedContents(path, cls)

    @classmethod
    def facts(cls, path: Path) -> DatasetFacts:
        """Return what a dataset says besides its arrays.

        Raises:
            InputError: it is damaged.
        """
        return DatasetFacts()

    @classmethod
    def write(cls, target: Path, buffer: ReplayBuffer, how: WriteOptions) -> dict[str, ImageLoss]:
        """Write a dataset; returns what was lost of images, by key.

        Args:
            target: what to write; it appears under its name when it is complete.
            buffer: action and observations.
            how: ``fps`` is there if `needs_fps`.

        Raises:
            InputError: the format cannot be written, or cannot hold the data.
        """
        raise InputError(f"{target}: there is nothing that writes the format of {cls.__name__}")
