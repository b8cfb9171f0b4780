"""Evaluations that are kept: one that is finished is not run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lfm_policy.errors import InputError
from lfm_policy.evaluation import Cell, EpisodeResult, RolloutConfig, evaluate, evaluation_to_dict
from lfm_policy.policy import Policy
from lfm_runtime.disk.files import write_json
from lfm_runtime.policy.sampler import Sampler

EVALUATION_FILE = "eval.json"
VIDEOS = "videos"


@dataclass(frozen=True)
class KeptEvaluation:
    """An evaluation as it stands in its file.

    Attributes:
        report: content of ``eval.json``.
        cell: its only cell.
        folder: holds ``eval.json`` and ``videos``.
    """

    report: Mapping[str, Any]
    cell: Cell
    folder: Path


def evaluate_once(
    policy: Policy, config: RolloutConfig, n_episodes: int, folder: Path, *, quiet: bool
) -> KeptEvaluation:
    """Evaluate a policy with its own sampler, unless ``folder`` holds just that evaluation.

    Args:
        policy: what is evaluated.
        config: where and how.
        n_episodes: episodes 0..n-1.
        folder: gets ``eval.json``; videos of an evaluation that is done anew are removed.
        quiet: no progress bar.

    Raises:
        InputError: as `lfm_policy.evaluation.evaluate`.
    """
    if kept := _read(policy, config, n_episodes, folder):
        if not quiet:
            print(f"kept: {folder / EVALUATION_FILE}", flush=True)
        return kept
    cells, seconds = evaluate(policy, config, n_episodes=n_episodes, quiet=quiet)
    report = evaluation_to_dict(policy, config, cells, seconds)
    shutil.rmtree(folder / VIDEOS, ignore_errors=True)
    write_json(folder / EVALUATION_FILE, report)
    return KeptEvaluation(report, cells[0], folder)


def _read(
    policy: Policy, config: RolloutConfig, n_episodes: int, folder: Path
) -> KeptEvaluation | None:
    """Return the evaluation in a folder; None when none is readable, or it is another one."""
    try:
        report = json.loads((folder / EVALUATION_FILE).read_text(encoding="utf-8"))
        (content,) = report["cells"]
        episodes = [EpisodeResult(**episode) for episode in content["episodes"]]
        sampler = Sampler.from_dict(content, f"{EVALUATION_FILE}: ")
        cell = Cell(sampler, content["latency"], episodes)
        same = (
            cell.summary() == content["summary"]
            and report["checkpoint_sha256"] == policy.info.get("sha256")
            and report["config"] == json.loads(json.dumps(asdict(config)))
            and len(episodes) == n_episodes
        )
    except (OSError, ValueError, TypeError, KeyError, InputError):
        return None
    return KeptEvaluation(report, cell, folder) if same else None
