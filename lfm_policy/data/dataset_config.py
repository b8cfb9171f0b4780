"""What a dataset format is: its options, how it is recognised, read, looked at and written."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import option, options
from lfm_runtime.registry import nearest_names

if TYPE_CHECKING:
    from lfm_policy.data.images.cache import ImageCache
    from lfm_policy.data.images.video_writer import ImageLoss
    from lfm_policy.data.tools.contents import Contents


ALL_TASKS = "*"
"""In place of names of tasks: all that the data name."""


@dataclass(frozen=True)
class DatasetFacts:
    """What a dataset says besides its arrays.

    Attributes:
        fps: steps per second; None where it does not say.
        env_args: description of the environment, as robomimic's files have it; None for none.
        robot_type: kind of the robot, as LeRobot's datasets have it; empty where it does not say.
        meanings: array, as the dataset calls it -> what its numbers are, as LeRobot's datasets have
            it (``names``).
    """

    fps: float | None = None
    env_args: dict[str, Any] | None = None
    robot_type: str = ""
    meanings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteOptions(DatasetFacts):
    """What a writer may need besides the data.

    Attributes:
        task: what the demonstrations show, in words.
        tasks: what each of them shows, where it is not the same; empty: ``task``.
        crf: quality of videos, 0 (best) to 51.
        quiet: no progress bars.
    """

    task: str = "demonstration"
    tasks: tuple[str, ...] = ()
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
        observations: what it calls each observation of the policy, where a name was changed.
    """

    env_id: str = ""
    variants: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    damaged: bool = False
    observations: Mapping[str, Any] = field(default_factory=dict)


@options
class DatasetConfig(ABC):
    """Options of every dataset format; a format adds its own and says how to load.

    A new format is one file (or folder) with such a subclass, and its line in `DATASET_FORMATS`.
    Only `load` has to be there; with an option ``path`` and `detects`, ``inspect`` and
    ``convert`` read it, too. Targets of an encoder (``auxiliary.keys``) are read by the options
    ``obs_keys`` and ``rename``.
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
    tasks: list[str] = option(
        [],
        'names of tasks that the policy is to tell apart, in the order of their numbers; ["*"]: '
        "all that the data name. Their episodes alone are read, and the policy observes `task`, "
        "one-hot; empty: all episodes, and it is told nothing",
        common=True,
        max_length=4096,
    )
    split_seed: int = option(42, "seed that chooses the validation episodes", ge=0)
    depth: dict[str, list[float]] = option(
        {},
        "cameras of depth, as the data call them, and the nearest and the farthest distance that "
        "matter, in the units of the data, such as {wrist_depth: [200, 1500]}: images become 255 "
        "grey levels, and 0 where nothing was measured; the robot then gives the same distances",
    )

    @abstractmethod
    def load(
        self, image_cache: ImageCache | Path | None = None, *, quiet: bool = True
    ) -> ReplayBuffer:
        """Read the dataset.

        Args:
            image_cache: where decoded images are kept, and at which size: it is handed on to
                `open_images`. A format without such files can leave it alone.
            quiet: no progress bars.

        Returns:
            A validated buffer: ``"action"`` of shape (T, action_dim), then one array of shape
            (T, ...) per observation key in their configured order; images are memory-mapped.

        Raises:
            InputError: the data are absent or not what they have to be.
        """

    def of(self, path: str) -> Self:
        """Return options that read another dataset of this format in the same way."""
        return dataclasses.replace(self, path=path)  # type: ignore[call-arg]

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
    def contents(cls, path: Path, action_key: str = "") -> Contents:
        """Return what is there, for ``inspect``; by default all that `load` reads of itself.

        Args:
            path: of the dataset.
            action_key: the array to imitate, where it is another than the format's own.

        Raises:
            InputError: it is damaged, or there is no such array.
        """
        from lfm_policy.data.tools.contents import LoadedContents

        return LoadedContents(path, cls, action_key)

    def episode_tasks(self) -> list[str]:
        """Return the task of every episode, in their order; empty where nothing says it.

        An episode of which alone nothing says it has the task "".

        Raises:
            InputError: what says it is damaged.
        """
        return []

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


def check_observed(
    obs_keys: Sequence[str], rename: Mapping[str, str], action_keys: Sequence[str] = ()
) -> None:
    """Check which arrays are observed, and their new names.

    Args:
        obs_keys: the arrays, as the data call them.
        rename: what the policy calls them, where that is something else.
        action_keys: arrays that must not be observed.

    Raises:
        OptionError: the action is among them, one is named twice, or a new name is for a key that
            is not observed, or is taken.
    """
    if set(obs_keys) & set(action_keys):
        raise OptionError(
            "obs_keys",
            f"{list(obs_keys)} holds the action: the policy would be shown what it has to predict; "
            "remove it",
        )
    if len(set(obs_keys)) != len(obs_keys):
        raise OptionError("obs_keys", f"{list(obs_keys)} names a key twice")
    for key in rename:
        if key not in obs_keys:
            hint = nearest_names(key, tuple(obs_keys))
            raise OptionError(
                "rename", f"names '{key}', which is not among obs_keys {list(obs_keys)}: {hint}"
            )
    names = [rename.get(key, key) for key in obs_keys]
    if len(set(names)) != len(names) or ACTION_KEY in names or "" in names:
        raise OptionError(
            "rename",
            f"{dict(rename)} gives the observations the names {names}: expected different names, "
            f"none of them empty or '{ACTION_KEY}'",
        )


def check_depth(depth: Mapping[str, Sequence[float]], obs_keys: Sequence[str]) -> None:
    """Check the option ``dataset.depth``.

    Args:
        depth: array -> nearest and farthest distance.
        obs_keys: what is observed; empty where that is still to be found out.

    Raises:
        OptionError: a range is none, or is of an array that is not observed.
    """
    for key, ends in depth.items():
        if len(ends) != 2 or not (0 <= ends[0] < ends[1] and math.isfinite(ends[1])):
            raise OptionError(
                "depth",
                f"gives '{key}' the range {list(ends)}, expected the nearest and the farthest "
                "distance in its units, such as [200, 1500]",
            )
        if obs_keys and key not in obs_keys:
            hint = nearest_names(key, tuple(obs_keys))
            raise OptionError(
                "depth", f"names '{key}', which is not among obs_keys {list(obs_keys)}: {hint}"
            )


def depth_ranges(
    depth: Mapping[str, Sequence[float]], names: Mapping[str, str], source: str
) -> dict[str, tuple[float, float]]:
    """Return the ranges by the names that the policy knows.

    Args:
        depth: the option ``dataset.depth``, by what the data call them.
        names: of all observations, from what the data call them to what the policy does.
        source: of the dataset, for the message.

    Raises:
        InputError: an array is not observed.
    """
    for key in depth:
        if key not in names:
            raise InputError(
                f"{source}: dataset.depth names '{key}', which is not observed: "
                + nearest_names(key, tuple(names))
            )
    return {names[key]: (float(near), float(far)) for key, (near, far) in depth.items()}
