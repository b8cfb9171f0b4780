"""Arrays of a robomimic file that some demos lack, or have in another shape, length or value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lfm_policy.data.replay_buffer import not_finite
from lfm_policy.data.robomimic.file import KeyInfo, RobomimicFile
from lfm_policy.errors import InputError


@dataclass(frozen=True)
class StoredInDemos:
    """The arrays of all demos by their names, and what each of them is in every demo.

    Attributes:
        infos: array -> demo -> what it is there; demos that lack it are left out.
        demos: all demos.
    """

    infos: Mapping[str, Mapping[str, KeyInfo]]
    demos: Sequence[str]

    @classmethod
    def of(cls, file: RobomimicFile) -> StoredInDemos:
        """Return what is in a file, from metadata alone.

        Raises:
            InputError: a demo is damaged.
        """
        infos: dict[str, dict[str, KeyInfo]] = {}
        for demo in file.demos:
            for name, info in file.stored(demo).items():
                infos.setdefault(name, {})[demo] = info
        return cls(infos, file.demos)

    def usual(self, name: str) -> KeyInfo:
        """Return what an array is in most of the demos that have it."""
        found = list(self.infos[name].values())
        return Counter([info for info in found if not info.problem] or found).most_common(1)[0][0]

    def other_rows(self, name: str, actions: str) -> dict[str, tuple[int, int]]:
        """Return the rows of an array and the steps of the demos where those are not as many.

        Args:
            name: of the array.
            actions: name of the array that says how many steps there are.
        """
        found, lengths = {}, self.infos.get(actions, {})
        for demo, info in self.infos[name].items():
            steps = lengths[demo].rows if demo in lengths else None
            if info.rows is not None and steps is not None and info.rows != steps:
                found[demo] = info.rows, steps
        return found

    def differing(self, name: str, rows: Mapping[str, tuple[int, int]]) -> dict[str, str]:
        """Return the demos in which an array is another than in most, and how.

        Args:
            name: of the array.
            rows: see `other_rows`.
        """
        usual, found = self.usual(name), {}
        for demo in self.demos:
            info = self.infos[name].get(demo)
            if info is None:
                found[demo] = "lacks it"
            elif info.problem:
                found[demo] = info.problem
            elif info != usual:
                found[demo] = (
                    f"has {info.dtype} {info.shape} per step, where most have {usual.dtype} "
                    f"{usual.shape}"
                )
            elif demo in rows:
                found[demo] = "has {} rows for {} steps".format(*rows[demo])
        return found


def unreadable(file: RobomimicFile, name: str) -> dict[str, str]:
    """Return the demos of which the values of an array cannot be used, and why."""
    return {demo: wrong for demo in file.demos if (wrong := _why_unreadable(file, demo, name))}


def _why_unreadable(file: RobomimicFile, demo: str, name: str) -> str:
    begin = 0
    try:
        for part in file.parts(demo, name):
            steps, value = not_finite(part)
            if len(steps):
                return f"holds {value} in step {begin + steps[0]}"
            begin += len(part)
    except InputError as error:
        return f"cannot be read ({error})"
    return ""
