"""Which features of a LeRobot dataset are observed: those asked for, or all that can be."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeVar

from lfm_policy.data.lerobot.cameras import check_picture
from lfm_policy.data.lerobot.episodes import Episode, check_listed
from lfm_policy.data.lerobot.info import DatasetInfo, Feature, UnusableFeature
from lfm_policy.data.lerobot.rows import column_of
from lfm_policy.data.lerobot.tables import ColumnError, check_type, open_parquet
from lfm_policy.data.lerobot.video import check_video
from lfm_policy.data.tools.contents import called_actions
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import is_file

_T = TypeVar("_T")

_OBSERVATION = "observation."
_COUNTS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Features that every LeRobot dataset has, of which a policy learns nothing."""


def observation_keys(features: Iterable[str], action_key: str) -> list[str]:
    """Return the features that may be observed: those that begin with ``observation.``.

    Where none does, as in sets that were made for openpi, all but what LeRobot counts in, and what
    tells of an action.
    """
    others = [key for key in features if key != action_key]
    observations = [key for key in others if key.startswith(_OBSERVATION)]
    left_out = {*_COUNTS, *called_actions(others)}
    return observations or [
        key for key in others if key not in left_out and not key.startswith("next.")
    ]


@dataclass
class Choice:
    """What is left of the features after every check.

    Attributes:
        source: of the dataset, for messages.
        asked: features asked for by name: if one is unusable, that is an error.
        left_out: feature that nobody asked for -> why it is unusable.
    """

    source: str
    asked: Set[str]
    left_out: dict[str, str] = field(default_factory=dict)

    def passing(self, keys: Iterable[str], check: Callable[[str], _T]) -> dict[str, _T]:
        """Return what ``check`` returns for those of ``keys`` that pass it.

        Raises:
            InputError: a feature asked for by name is unusable, or any is damaged.
        """
        passed = {}
        for key in keys:
            try:
                passed[key] = check(key)
            except UnusableFeature as error:
                if key in self.asked:
                    raise
                self.left_out[key] = error.fact
        return passed

    def conclude(self, n_left: int) -> None:
        """Say what was left out.

        Args:
            n_left: number of features that are observed.

        Raises:
            InputError: there is none.
        """
        if not n_left:
            reasons = "; ".join(self.left_out.values())
            raise InputError(
                f"{self.source}: no observation can be used, so the policy would see nothing: "
                f"{reasons[:1500]}"
            )
        for key, reason in self.left_out.items():
            warnings.warn(
                f"{self.source}: {key} is left out, because it cannot be observed: {reason}; name "
                "obs_keys to choose",
                stacklevel=4,
            )


def announced(info: DatasetInfo, key: str, *, is_depth: bool = False) -> Feature:
    """Return a feature that can be observed as far as the files under ``meta/`` say.

    Args:
        info: of the dataset.
        key: of the feature.
        is_depth: whether it is to be read as depth.

    Raises:
        InputError: there is no such feature, or a file is damaged.
        UnusableFeature: it cannot be observed.
    """
    feature = info.feature(key, is_depth=is_depth)
    with _unusable_column():
        check_listed(info, feature)
    return feature


def check_stored(feature: Feature, episodes: Sequence[Episode]) -> None:
    """Check the kind of what is stored of a feature on the first file that is there.

    Args:
        feature: what meta/info.json says of it.
        episodes: those that are read; at least one.

    Raises:
        InputError: that file is damaged.
        UnusableFeature: the feature cannot be observed.
    """
    if feature.dtype == "video":
        paths = [episode.videos[feature.key].path for episode in episodes]
        path = next((path for path in paths if is_file(path)), None)
        if path is None:
            raise UnusableFeature(
                f"{paths[0]}: there is no such file, nor any other video of feature "
                f"'{feature.key}'; download or copy the dataset again, or leave it out"
            )
        check_video(path, feature)
        return
    episode = next((episode for episode in episodes if is_file(episode.data)), None)
    if episode is None:
        return  # reading says so
    if feature.dtype == "image":
        with _unusable_column():
            check_picture(episode, feature)
        return
    with open_parquet(episode.data) as file, _unusable_column():
        check_type(file, episode.data, feature.key, column_of(feature))


@contextlib.contextmanager
def _unusable_column() -> Iterator[None]:
    try:
        yield
    except ColumnError as error:
        raise UnusableFeature(str(error)) from None
