"""What a robomimic file holds, from its metadata alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfm_policy.data.robomimic.file import KeyInfo, RobomimicFile
from lfm_policy.errors import InputError


@dataclass(frozen=True)
class RobomimicSummary:
    """What a file holds.

    Attributes:
        keys: every array of the first demo by its name inside the demo, ``obs/<key>`` included.
        demos: number of steps by name of the demo, in numeric order.
        filter_keys: names of demos by filter key, as far as they can be read.
        env_args: description of the environment; None where the file has none that can be used.
        env_problem: why it has none, as evaluation would say it; ``""`` if it has one.
        unusable_masks: why filter keys cannot be read, one message each.
        failed: demos that the file marks as not successful; they are demos like all others.
    """

    keys: dict[str, KeyInfo]
    demos: dict[str, int]
    filter_keys: dict[str, tuple[str, ...]]
    env_args: dict[str, Any] | None
    env_problem: str = ""
    unusable_masks: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def inspect_robomimic(path: str | Path) -> RobomimicSummary:
    """Return what a file holds, reading metadata only.

    Raises:
        InputError: the file is absent or damaged, or is not laid out as robomimic's are.
    """
    with RobomimicFile(path) as file:
        env_args, env_problem = None, ""
        try:
            env_args = file.env_args()
        except InputError as error:
            env_problem = str(error)
        lists = file.filters.all()
        return RobomimicSummary(
            keys=file.stored(file.demos[0]),
            demos={demo: file.num_samples(demo) for demo in file.demos},
            filter_keys={k: v for k, v in lists.items() if not isinstance(v, InputError)},
            env_args=env_args,
            env_problem=env_problem,
            unusable_masks=tuple(str(v) for v in lists.values() if isinstance(v, InputError)),
            failed=tuple(demo for demo in file.demos if file.is_marked_failed(demo)),
        )
