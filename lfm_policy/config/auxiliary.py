"""Options of what an encoder learns to tell besides, while it learns."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import Field

from lfm_policy.errors import OptionError
from lfm_policy.options import option, options


@options
class AuxiliaryConfig:
    """Targets for an encoder from numbers that the dataset has and the robot lacks.

    A small head on the encoded observation predicts them in all frames of the history. It learns
    with the encoder, and is dropped after that: no policy has it.
    """

    keys: list[str] = option(
        [],
        "numbers that the dataset has and the robot lacks, such as [object_pose], as the data call "
        "them: an encoder that learns learns to tell them too, which shows it what matters in its "
        "images. The policy neither sees nor needs them. Empty: none",
        common=True,
    )
    weight: float = option(
        1.0,
        "weight of the error of the targets in the loss while the encoder learns; 0: they are not "
        "even read",
        ge=0,
        le=1e6,
    )
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = option(
        [128],
        "widths of hidden layers between the encoded observation and the targets; empty: a linear "
        "map, for which the encoder has to tell them plainly",
        max_length=32,
    )
    error_scale: float = option(
        0.0,
        "root mean square error of a window's targets, in normalised units, far above which the "
        "loss grows with the error instead of its square (pseudo-Huber), for targets that are "
        "sometimes wrong or out of sight; 0: squares",
        ge=0,
        le=1e6,
    )

    def __post_init__(self) -> None:
        if twice := [key for key, count in Counter(self.keys).items() if count > 1]:
            raise OptionError("keys", f"{self.keys} names '{twice[0]}' twice")

    @property
    def used(self) -> bool:
        """Whether there are targets that count."""
        return bool(self.keys) and self.weight > 0
