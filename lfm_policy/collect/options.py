"""What is collected."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lfm_policy.collect.experts import EXPERTS
from lfm_policy.errors import InputError


@dataclass(frozen=True)
class CollectOptions:
    """Which demonstrations; two recordings with equal options hold the same demos.

    Attributes:
        task: a name of `EXPERTS`.
        episodes: demos to keep.
        seed_start: the first episode starts from this environment seed, the next from the next.
        seed: of the demonstrators' habits, mistakes and pauses.
        images: record what the cameras of the task see, too.
        image_size: their width and height in pixels; by default what suits the task.
        verify: replay every demo and keep it only if it succeeds again.
        expert_options: arguments of the expert, plain JSON values.
    """

    task: str
    episodes: int = 200
    seed_start: int = 300_000
    seed: int = 0
    images: bool = False
    image_size: int = 0
    verify: bool = False
    expert_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            InputError: an unknown task or a number out of its range.
        """
        expert = EXPERTS.get(self.task)
        if not self.image_size:
            object.__setattr__(self, "image_size", expert.image_size)
        if self.episodes < 1:
            raise InputError(f"episodes is {self.episodes}, expected at least 1")
        if min(self.seed_start, self.seed) < 0:
            raise InputError("seeds must not be negative")
        if self.seed_start + self.max_attempts >= 2**32:
            raise InputError(
                f"seed_start is {self.seed_start}, expected less than 2**32 at the end"
            )
        if not 16 <= self.image_size <= 1024:
            raise InputError(f"image_size is {self.image_size}, expected 16 to 1024 pixels")

    @property
    def max_attempts(self) -> int:
        """Episodes after which too few successes mean that something is broken."""
        return 20 + 10 * self.episodes

    def facts(self) -> dict[str, Any]:
        """Return what single demos depend on, as plain JSON values: all but how many there are."""
        options = asdict(self)
        del options["episodes"]
        if not self.expert_options:  # as in files of before
            del options["expert_options"]
        return {"version": EXPERTS.get(self.task).version} | options
