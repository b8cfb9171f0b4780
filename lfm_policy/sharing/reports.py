"""What was measured of a checkpoint: the reports of `eval` and of `check` beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lfm_policy.assets import results_folder
from lfm_policy.checkpoint_folders import run_of_checkpoint
from lfm_policy.errors import InputError
from lfm_policy.evaluation.statistics import bootstrap_mean
from lfm_policy.policy.checkpoint import CheckpointHeader
from lfm_runtime.disk.input_files import read_json_object
from lfm_runtime.policy.sampler import Sampler

EVALUATION, CHECK = "eval.json", "check.json"
_MAXIMUM = {"maximum_bytes": 256_000_000, "maximum_values": 10_000_000}


@dataclass(frozen=True)
class Rollouts:
    """One sampler on one set of episodes.

    Attributes:
        env: gymnasium id.
        n: episodes.
        seed_start: environment seed of the first.
        sampler: its ``nfe`` is the mean over chunks.
        n_action_steps: executed of every chunk; None: as configured.
        successes: None where the environment reports none.
        success_interval: Wilson, 95%.
        score: mean over episodes of the largest reward.
        score_interval: bootstrap, 95%.
        latency: of a chunk: ``median_ms``, ``p95_ms``, ``threads``, ``device``.
    """

    env: str
    n: int
    seed_start: int
    noise_seed: int
    sampler: Sampler
    n_action_steps: int | None
    successes: int | None
    success_interval: tuple[float, float] | None
    score: float
    score_interval: tuple[float, float]
    latency: dict[str, Any]

    @property
    def nfe(self) -> float:
        """Network evaluations per chunk, on average."""
        assert self.sampler.nfe is not None
        return self.sampler.nfe

    @property
    def last_seed(self) -> int:
        """Environment seed of the last episode."""
        return self.seed_start + self.n - 1


@dataclass(frozen=True)
class OpenLoopError:
    """Error of the actions against demonstrated ones, in normalised units, over episodes.

    Attributes:
        kind: of the episodes: ``held-out``, or what else they are.
        baseline: name of the strongest way to predict without a policy, and its error.
    """

    kind: str
    episodes: int
    error: float
    interval: tuple[float, float]
    baseline: str
    baseline_error: float


@dataclass(frozen=True)
class Measured:
    """What is known of how good a checkpoint is.

    Attributes:
        left_out: files beside it that tell of another checkpoint.
    """

    rollouts: tuple[Rollouts, ...] = ()
    open_loop: tuple[OpenLoopError, ...] = ()
    left_out: tuple[Path, ...] = field(default=(), compare=False)


def find_reports(source: str | Path, header: CheckpointHeader) -> list[Path]:
    """Return the reports in the folder that was named, in that of the checkpoint and of its run."""
    places = (results_folder(source), run_of_checkpoint(header.folder), header.folder)
    folders = dict.fromkeys(place for place in places if place is not None)
    return [
        path
        for name, pattern in ((EVALUATION, "eval*"), (CHECK, "check*"))
        for folder in folders
        for path in sorted(folder.glob(f"{pattern}/{name}"))
    ]


def read_reports(
    paths: Iterable[Path], header: CheckpointHeader, *, insist: bool = False
) -> Measured:
    """Read reports of one checkpoint.

    Args:
        paths: files that `eval` or `check` wrote.
        header: the checkpoint.
        insist: whether a report of another checkpoint is an error, and not just left out.

    Raises:
        InputError: a file is no such report, or of another checkpoint.
    """
    rollouts: list[Rollouts] = []
    open_loop: list[OpenLoopError] = []
    left_out: list[Path] = []
    for path in dict.fromkeys(p.resolve() for p in paths):
        content = read_json_object(path, **_MAXIMUM)
        try:
            check = content.get("format") == "lfm-policy-check"
            of = str((content["policy"] if check else content)["checkpoint_sha256"])
            errors = [_open_loop_of(content)] if check else []
            cells = [] if check else _rollouts_of(content, header)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: is no report of 'lfm-policy eval' or 'check' ({error!r:.100}): make it "
                "again, or remove it"
            ) from None
        if of == header.sha256:
            open_loop += errors
            rollouts += cells
        elif insist:
            raise InputError(
                f"{path}: is of the checkpoint {of[:12]}..., not of {header.folder} "
                f"({header.sha256[:12]}...)"
            )
        else:
            left_out.append(path)
    return Measured(tuple(rollouts), tuple(open_loop), tuple(left_out))


def _rollouts_of(content: dict[str, Any], header: CheckpointHeader) -> list[Rollouts]:
    config, found = content["config"], []
    executed, configured = content.get("n_action_steps"), header.config.policy.n_action_steps
    for cell in content["cells"]:
        summary = cell["summary"]
        told = summary["success_interval"]
        found.append(
            Rollouts(
                env=str(config["env_id"]),
                n=int(summary["n"]),
                seed_start=int(config["seed_start"]),
                noise_seed=int(config["noise_seed"]),
                sampler=Sampler.from_dict({**cell, "nfe": float(cell["nfe"])}, "cells."),
                n_action_steps=None if executed == configured else executed,
                successes=summary["successes"],
                success_interval=None if told is None else _pair(told),
                score=float(summary["score"]),
                score_interval=bootstrap_mean([e["max_reward"] for e in cell["episodes"]]),
                latency=dict(cell["latency"]),
            )
        )
    return found


def _open_loop_of(content: dict[str, Any]) -> OpenLoopError:
    loop, data = content["open_loop"], content["data"]
    sample, strongest = loop["errors"]["sample"], loop["strongest_baseline"]
    return OpenLoopError(
        kind=str(data["kind"]),
        episodes=len(data["episodes"]),
        error=float(sample["normalized"]),
        interval=_pair(sample["interval"]),
        baseline=str(strongest),
        baseline_error=float(loop["errors"][f"baseline_{strongest}"]["normalized"]),
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)
