"""What a check found: numbers, findings, one paragraph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.checking.blocks import BlockCheck
from lfm_policy.checking.demonstrations import Demonstrations, Instants
from lfm_policy.checking.open_loop import ActionScale, OpenLoop
from lfm_policy.checking.rules import findings_of, verdict_of
from lfm_policy.checking.samples import Joins, Spread
from lfm_policy.checking.seen import Shuffled
from lfm_policy.evaluation.chunks import Outside
from lfm_policy.inspection.finding import Finding
from lfm_policy.version import __version__

FORMAT_VERSION = 1


@dataclass(frozen=True)
class PolicyCheck:
    """All that is known of a policy without rolling it out; made by `lfm_policy.check`.

    Attributes:
        name: what it was called by.
        policy: plain facts: its name, checkpoint, sampler, horizons.
        demonstrations: what it was checked on.
        seed: of noise and choices.
        units: of its actions.
        open_loop: errors of its actions beside baselines.
        spread: of samples of one observation.
        joins: between one chunk and the next; None where no episode has two.
        outside: how its chunks, the executed actions, leave the demonstrated range.
        unclipped: whether that was taken before actions are clipped.
        shuffled: what becomes of it when observations are exchanged, by key.
        copies: observations that tell it its last action, and which dimensions of it.
        cameras: names of observations that are images.
        blocks: losses of its blocks; empty for exports.
        n_action_steps: actions that are executed of a chunk.
        noise_scale: of the sampler; None where it is not known.
        complete: whether its training ended; None where that is not known.
        student: whether it was distilled.
        deterministic: whether it has no noise on purpose.
        instants: where it was asked, for pictures.
        samples: (K, M, horizon, action_dim) what it answered, as it would be executed.
    """

    name: str
    policy: Mapping[str, Any]
    demonstrations: Demonstrations = field(repr=False)
    seed: int
    units: ActionScale
    open_loop: OpenLoop
    spread: Spread
    joins: Joins | None
    outside: Outside
    unclipped: bool
    shuffled: Sequence[Shuffled]
    copies: Mapping[str, list[int]]
    cameras: tuple[str, ...]
    blocks: Sequence[BlockCheck]
    n_action_steps: int
    noise_scale: float | None
    complete: bool | None
    student: bool
    deterministic: bool
    instants: Instants = field(repr=False)
    samples: np.ndarray = field(repr=False)

    @property
    def n_episodes(self) -> int:
        """Episodes that are compared."""
        return len(self.open_loop.sample.per_episode)

    @cached_property
    def findings(self) -> list[Finding]:
        """What looks wrong, what matters most first; see `lfm_policy.checking.rules`."""
        return findings_of(self)

    @property
    def verdict(self) -> str:
        """One paragraph: how good it is, what looks wrong, what to try."""
        return verdict_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, those of ``check.json``."""
        data = self.demonstrations
        return {
            "format": "lfm-policy-check",
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            "name": self.name,
            "policy": dict(self.policy),
            "seed": self.seed,
            "data": {
                "source": data.buffer.source,
                "kind": data.kind,
                "remark": data.remark,
                "episodes": data.checked.tolist(),
                "reference_episodes": len(data.reference),
                "instants": len(self.instants),
            },
            "action": {
                "normalized_per_unit": self.units.scale.tolist(),
                "low": self.units.low.tolist(),
                "high": self.units.high.tolist(),
                "std": self.units.std.tolist(),
            },
            "open_loop": self.open_loop.to_dict(),
            "spread": self.spread.to_dict(),
            "joins": None if self.joins is None else self.joins.to_dict(),
            "outside_range": {
                **self.outside.to_dict(),
                "before_clipping": self.unclipped,
            },
            "observations": {
                "shuffled": [entry.to_dict() for entry in self.shuffled],
                "copies_of_last_action": dict(self.copies),
            },
            "blocks": [block.to_dict() for block in self.blocks],
            "findings": [finding.to_dict() for finding in self.findings],
            "verdict": self.verdict,
        }

    def print(self) -> None:
        """Print tables to standard output, then the paragraph."""
        from lfm_policy.checking.report import print_check

        print_check(self)

    def plot(self, path: str | Path) -> None:
        """Draw errors by step and dimension, losses of blocks, and chunks beside demonstrations.

        Args:
            path: of the PNG to write.
        """
        from lfm_policy.checking.figure import save_check

        save_check(self, Path(path))
