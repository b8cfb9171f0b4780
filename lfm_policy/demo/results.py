"""What the demo found, as the page and the command line show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lfm_policy.demo.evaluations import KeptEvaluation
from lfm_policy.demo.flow_states import FlowState
from lfm_policy.demo.pictures.films import ChosenEpisode
from lfm_policy.demo.pictures.scene import Scene
from lfm_policy.policy import CheckpointHeader


@dataclass(frozen=True)
class PolicyResult:
    """One policy of the demo.

    Attributes:
        name: name of its run folder, such as ``student-nfe2``.
        title: how people call it.
        header: of its checkpoint.
        evaluation: its rollouts.
        metrics: records of its training, see `lfm_policy.training.run_folder.metrics`.
        flow: its chunks between noise and action in the scene of `DemoResults`.
        films: of each chosen episode, by its number: MP4, and its last frame beside it as PNG.
    """

    name: str
    title: str
    header: CheckpointHeader
    evaluation: KeptEvaluation
    metrics: Sequence[Mapping[str, Any]]
    flow: Sequence[FlowState]
    films: Mapping[int, Path]

    @property
    def student_blocks(self) -> int:
        """Blocks of a student, 0 of the teacher: what its colour follows from."""
        return self.header.config.student_blocks


@dataclass(frozen=True)
class DataFacts:
    """The demonstrations: name of the store, episodes, steps of all episodes."""

    name: str
    n_episodes: int
    n_steps: int


@dataclass(frozen=True)
class DemoResults:
    """All that the page shows.

    Attributes:
        data: what the teacher was trained on.
        policies: the teacher, then its students.
        scene: where the chunks of `PolicyResult.flow` were sampled.
        flow_film: these chunks on their way, as the films above.
        chosen: the filmed episodes.
        command: what was typed; empty when it was no command line.
        seconds: wall-clock seconds of each stage.
    """

    data: DataFacts
    policies: Sequence[PolicyResult]
    scene: Scene
    flow_film: Path
    chosen: Sequence[ChosenEpisode]
    command: str
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "command": self.command,
            "seconds": dict(self.seconds),
            "data": asdict(self.data),
            "policies": [
                {
                    "name": policy.name,
                    "title": policy.title,
                    "checkpoint": str(policy.header.folder),
                    "checkpoint_sha256": policy.header.sha256,
                    **policy.evaluation.cell.sampler.to_dict(),
                    "summary": policy.evaluation.cell.summary(),
                    "latency": dict(policy.evaluation.cell.latency),
                    "parameters": policy.header.training["parameters"],
                    "steps": policy.header.training["steps"],
                    "train_seconds": policy.header.training["train_seconds"],
                    "push_seconds": policy.header.training["push_seconds"],
                }
                for policy in self.policies
            ],
        }
