"""Names in robomimic files: in which order, and how messages list them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lfm_policy.data.robomimic.file import RobomimicFile

TASK_ATTRIBUTE = "task"
"""Attribute of a demo that names what is done in it."""

DROP_IT = "remove the demo from the file, or choose others with dataset.filter_key"
"""What to do about a demo that nothing can be learned from."""


def numeric_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key by which numbers inside names count as numbers: demo_2, demo_10."""
    # A number with more digits is larger; those with as many compare like text. Text itself comes
    # after numbers. No int: there may be more digits than Python converts.
    parts = [part.lstrip("0") if part.isdigit() else part for part in re.split("([0-9]+)", name)]
    return tuple((len(p) if p.isdigit() or not p else 2**63, p) for p in parts)


def some_names(names: Sequence[str], most: int = 20) -> str:
    """Return names for a message: the first ones, and so much of each that it can be read."""
    listed = [f"{name:.60}" for name in names[:most]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(listed) + more if listed else "nothing"


def one_episode_hint(names: Sequence[str]) -> str:
    """Return what to do with a file that holds one episode, as ALOHA's and DROID's recorders write.

    Args:
        names: what is at the root of a file that has no ``data``.

    Returns:
        To follow a message; empty where nothing looks like an episode.
    """
    if not {"action", "actions"} & set(names) or not {"observation", "observations"} & set(names):
        return ""
    return (
        ". It looks like a single episode, as ALOHA and DROID record them, one file each: that "
        "layout is not read. Convert all of them to a LeRobot dataset (v2.0 to v3.0; the makers of "
        "such sets publish converters), or copy them into one robomimic file (data/demo_0, "
        "data/demo_1 and so on) or one zarr replay buffer (data/<key>, episodes end to end, and "
        "meta/episode_ends)"
    )


def demo_tasks(file: RobomimicFile, demos: Sequence[str]) -> list[str]:
    """Return which task each demo shows, as its attribute ``task`` says.

    Raises:
        NoTasksError: one does not say it.
    """
    from lfm_policy.data.tasks.choice import names_no_task

    tasks = []
    for demo in demos:
        if not (task := file.text(demo, TASK_ATTRIBUTE)):
            raise names_no_task(
                str(file.path),
                f"data/{demo} has no attribute '{TASK_ATTRIBUTE}'; a file for each task is read by "
                "dataset.name=several",
            )
        tasks.append(task)
    return tasks
