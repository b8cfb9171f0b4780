"""The head of a model card: what the hub searches, filters and draws by; and whose words it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader
from lfm_policy.sharing.hub import hub_name
from lfm_policy.sharing.meanings import dataset_path
from lfm_policy.sharing.reports import Measured, Rollouts
from lfm_policy.text.numbers import counted
from lfm_policy.text.samplers import evaluations_of as spent_by
from lfm_policy.text.samplers import numbers

LIBRARY = "lfm-policy"
TASK = "robotics"
TAGS = (TASK, LIBRARY, "imitation-learning", "flow-matching", "action-chunking")


@dataclass(frozen=True)
class CardOptions:
    """What a checkpoint does not know of itself.

    Attributes:
        name: what `load_policy` finds it by, such as ``user/name``.
        license: as the hub calls it, such as ``apache-2.0``; empty: none is given.
        description: what it does, in the words of its owner; empty: nothing.
        exports: folders of exported graphs in the repository, such as ``onnx/exported``.
        data_note: a sentence on the demonstrations.
    """

    name: str
    license: str = ""
    description: str = ""
    exports: tuple[str, ...] = field(default=())
    data_note: str = ""


def front_matter(header: CheckpointHeader, measured: Measured, options: CardOptions) -> str:
    """Return the YAML at the head of the card, without the lines around it."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for cell in measured.rollouts:
        of = f"evaluations per chunk {evaluations_of(cell)}, n = {cell.n}"
        common: dict[str, Any] = {
            "task_type": TASK,
            "dataset_type": cell.env,
            "dataset_name": cell.env,
            "dataset_split": f"seeds {cell.seed_start} to {cell.last_seed}",
        }
        if cell.successes is not None:
            results.append(
                EvalResult(
                    metric_type="success_rate",
                    metric_name=f"success rate, {of}",
                    metric_value=round(cell.successes / cell.n, 4),
                    **common,
                )
            )
        results.append(
            EvalResult(
                metric_type="score",
                metric_name=f"score (mean largest reward), {of}",
                metric_value=round(cell.score, 4),
                **common,
            )
        )
    dataset = hub_dataset(header.config)
    data = ModelCardData(
        license=options.license or None,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=list(TAGS),
        datasets=[dataset] if dataset else None,
        model_name=options.name.partition("@")[0].rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def hub_dataset(config: ExperimentConfig) -> str:
    """Return the dataset's name on the hub; empty where it was a folder."""
    path = dataset_path(config)
    if config.dataset.name != "lerobot" or path is None or path.exists() or path.parent.exists():
        return ""
    return str(path) if hub_name(str(path)) else ""


def evaluations_of(cell: Rollouts) -> str:
    """Return the sampler of rollouts in words."""
    sampler, said = cell.sampler, ", ".join(numbers(cell.sampler, noise="noise"))
    text = f"{spent_by(sampler)} ({sampler.solver}), {said}"
    steps = cell.n_action_steps
    return text if steps is None else f"{text}, {counted(steps, 'action')} executed"


def check_license(text: str) -> str:
    """Return a licence as the hub wants it: one word.

    Raises:
        InputError: it is none.
    """
    if not text or any(c.isspace() for c in text):
        raise InputError(
            f"--license is '{text}', expected one word as the hub calls licences, such as mit, "
            "apache-2.0 or cc-by-4.0 (https://huggingface.co/docs/hub/repositories-licenses)"
        )
    return text
