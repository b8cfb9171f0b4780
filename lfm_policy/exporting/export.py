"""From a policy to the folder that a robot's computer needs."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.config import config_to_dict
from lfm_policy.errors import InputError
from lfm_policy.exporting.graph import policy_graph
from lfm_policy.exporting.precision import with_precision
from lfm_policy.policy import Policy
from lfm_policy.policy.checkpoint import ALSO_TRAINED_ON
from lfm_runtime.disk.files import atomic_folder, exists
from lfm_runtime.disk.input_files import sha256_of
from lfm_runtime.export.description import PRECISIONS, ExportDescription
from lfm_runtime.export.file import GRAPH_FILE, write_description
from lfm_runtime.export.graph_file import MAXIMUM_BYTES, check_graph
from lfm_runtime.policy.spec import is_image

TRAINING_KEYS = ("complete", "steps", "train_seconds", "push_seconds", "threads")


def export_policy(policy: Policy, folder: str | Path, *, precision: str = "fp32") -> Path:
    """Write ``policy.onnx`` and ``policy.json``.

    Args:
        policy: with the sampler that the export shall have (`Policy.set_sampler`).
        folder: appears as a whole; it must not exist.
        precision: ``fp32``; ``fp16``, weights stored in half precision; or ``int8``, matrix
            products in 8 bits.

    Returns:
        The folder.

    Raises:
        InputError: the folder exists, the precision is unknown, a weight does not fit into it, or
            the sampler is adaptive or draws noise.
    """
    folder = Path(folder)
    if exists(folder):
        raise InputError(f"{folder}: exists already; choose another folder or remove it")
    if precision not in PRECISIONS:
        raise InputError(f"precision is '{precision}', expected one of {', '.join(PRECISIONS)}")
    graph = with_precision(policy_graph(policy), precision)
    size = graph.ByteSize()
    if size >= MAXIMUM_BYTES:
        raise InputError(
            f"{folder}: the graph would have {size:,} bytes, expected less than {MAXIMUM_BYTES:,}: "
            "choose a smaller network or --precision fp16"
        )
    content: bytes = graph.SerializeToString()
    check_graph(content, folder / GRAPH_FILE)  # what is written can be read
    with atomic_folder(folder) as temporary:
        path = temporary / GRAPH_FILE
        path.write_bytes(content)
        write_description(temporary, _description(policy, precision, sha256_of(path)))
    return folder


def _description(policy: Policy, precision: str, graph_sha256: str) -> ExportDescription:
    config = policy.config
    keys = [key for key, shape in policy.spec.obs_shapes.items() if not is_image(shape)]
    return ExportDescription(
        spec=policy.spec,
        n_obs_steps=policy.n_obs_steps,
        horizon=policy.horizon,
        n_action_steps=policy.n_action_steps,
        max_prefix=policy.max_prefix,
        ranges={key: policy.training_range(key) for key in (*keys, "action")},
        graph_sha256=graph_sha256,
        checkpoint_sha256=str(policy.info.get("sha256", "")),
        name=config.name,
        sampler=policy.sampler,
        precision=precision,
        clips_actions=config.policy.clip_actions,
        env=config_to_dict(config)["env"],
        parameters=policy.parameter_counts(),
        also_trained_on=tuple(policy.info.get(ALSO_TRAINED_ON, ())),
        training={key: policy.info[key] for key in TRAINING_KEYS if key in policy.info},
    )
