"""What checkpoints of students say of their teachers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lfm_policy.text.numbers import percent

DISTANCE = "from_teacher"
"""Where checkpoints keep how far a student is from its teacher, in ``training``."""
TEACHER_IMPORTED = "teacher_imported"
"""Where they keep which framework trained a teacher that was imported."""
RECORDING_STANDS_IN = "recording_stands_in"
"""Where they keep that the student's dataset is no demonstrations, but what a robot saw."""

_SHOWN = 8
"""Numbers of an action that are told one by one."""


def distance_in_words(training: Mapping[str, Any]) -> str:
    """Return a line about what a checkpoint keeps of it, in ``training``."""
    found = training.get(DISTANCE)
    if not found:
        return (
            "how far its actions are from its teacher's is not known: no episode was held out "
            "(dataset.validation_ratio)"
        )
    numbers = ", ".join(f"{value:.3g}" for value in found["rmse"][:_SHOWN])
    more = ", ..." if len(found["rmse"]) > _SHOWN else ""
    return (
        f"at {found['observations']:,} held-out observations its actions differ from the teacher's "
        f"by {numbers}{more} (root mean square of each number; {found['rmse_normalised']:.3g} "
        f"normalised, {percent(found['of_spread'], 1)} of the spread of the teacher's)"
    )
