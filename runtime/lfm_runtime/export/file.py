"""Reading and writing ``policy.json``, every value checked before it is believed.

An exported folder holds ``policy.onnx``, the graph, and ``policy.json``, which says what goes in
and comes out. It carries the SHA-256 of the graph and of itself, so that a damaged or exchanged
file is noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lfm_runtime.disk.files import is_file
from lfm_runtime.disk.stamped import read_stamped, write_stamped
from lfm_runtime.errors import InputError
from lfm_runtime.export.description import (
    ALSO_TRAINED_ON,
    AS_THEY_ARE,
    FORMAT,
    FORMAT_VERSION,
    PRECISIONS,
    ExportDescription,
)
from lfm_runtime.policy.sampler import Sampler
from lfm_runtime.policy.spec import DataSpec, is_image
from lfm_runtime.version import __version__

GRAPH_FILE = "policy.onnx"
DESCRIPTION_FILE = "policy.json"

MAXIMUM_JSON_BYTES = 16_000_000
MAXIMUM_VALUES = 1_000_000
MAXIMUM_STEPS = 1 << 20
MAXIMUM_INPUT_SIZE = 1 << 28
"""Numbers in one row of an input, which memory is asked for."""


def is_export(path: str | Path) -> bool:
    """Whether a path is an exported folder."""
    return is_file(Path(path) / DESCRIPTION_FILE)


def write_description(folder: Path, description: ExportDescription) -> None:
    """Write ``policy.json`` into an existing folder."""
    write_stamped(folder / DESCRIPTION_FILE, description.to_dict())


def read_description(folder: str | Path) -> ExportDescription:
    """Read and check ``policy.json`` of an exported folder.

    Raises:
        InputError: not an exported folder, damaged, written by a newer version, or with values
            that cannot be.
    """
    file = Path(folder) / DESCRIPTION_FILE
    if not is_file(file):
        raise InputError(
            f"{folder}: not an exported policy: expected '{DESCRIPTION_FILE}' and '{GRAPH_FILE}' "
            "in it, as 'lfm-policy export' writes them"
        )
    content, _ = read_stamped(
        file,
        format=FORMAT,
        version=FORMAT_VERSION,
        reader="lfm-policy-runtime",
        reader_version=__version__,
        copied="the folder",
        maximum_bytes=MAXIMUM_JSON_BYTES,
        maximum_values=MAXIMUM_VALUES,
    )
    label = str(file)
    for key, expected, holds in _CHECKS:
        value: Any = content
        for part in key.split("."):  # what holds others is an object: it was looked at before
            value = value.get(part)
        if not holds(value):
            raise _error(label, key, value, expected)
    also = content.get(ALSO_TRAINED_ON, [])
    if not _is_list(_is_text)(also):
        raise _error(label, ALSO_TRAINED_ON, also, "names")
    n_obs_steps, n_action_steps = content["n_obs_steps"], content["n_action_steps"]
    if n_action_steps > content["horizon"] - n_obs_steps + 1:
        expected = "at most horizon - n_obs_steps + 1"
        raise _error(label, "n_action_steps", n_action_steps, expected)
    spec = DataSpec.from_dict(content.get("data"), label)
    description = ExportDescription(
        spec=spec,
        ranges=_ranges(content["ranges"], spec, label),
        graph_sha256=content["graph"]["sha256"],
        sampler=Sampler.from_dict(content["sampler"], f"{label}: sampler."),
        also_trained_on=tuple(also),
        **{key: content[key] for key in AS_THEY_ARE},
    )
    for name, (_, shape) in description.inputs.items():
        if math.prod(shape) > MAXIMUM_INPUT_SIZE:
            raise InputError(
                f"{label}: one row of the input '{name[:100]}' has shape {shape}, expected at most "
                f"{MAXIMUM_INPUT_SIZE:,} numbers"
            )
    return description


def _ranges(given: Any, spec: DataSpec, label: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    shapes = {key: shape for key, shape in spec.obs_shapes.items() if not is_image(shape)}
    shapes["action"] = (spec.action_dim,)
    ranges = {}
    for key, shape in shapes.items():
        entry, size = given.get(key), math.prod(shape)
        ends: list[Any] = [entry.get(end) if _is_object(entry) else None for end in ("low", "high")]
        if not all(_is_list(_is_number)(end) and len(end) == size for end in ends):
            expected = f"low and high of {size} number(s)"
            raise _error(label, f"ranges.{key[:100]}", entry, expected)
        low, high = (np.array(end, dtype=spec.dtype(key)).reshape(shape) for end in ends)
        if not (low <= high).all():
            raise _error(label, f"ranges.{key[:100]}", entry, "low at most high")
        ranges[key] = (low, high)
    return ranges


def _error(label: str, key: str, found: Any, expected: str) -> InputError:
    return InputError(f"{label}: {key}: found {str(found)[:100]!r}, expected {expected}")


_Check = Callable[[Any], bool]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(lowest: int, highest: float = math.inf) -> _Check:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest
    )


def _is_list(holds: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _is_map(holds: _Check) -> _Check:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


_CHECKS: tuple[tuple[str, str, _Check], ...] = (
    *(
        (key, f"a number from 1 to {MAXIMUM_STEPS:,}", _is_count(1, MAXIMUM_STEPS))
        for key in ("n_obs_steps", "horizon", "n_action_steps")
    ),
    ("max_prefix", f"a number from 0 to {MAXIMUM_STEPS:,}", _is_count(0, MAXIMUM_STEPS)),
    ("graph", "an object", _is_object),
    ("graph.sha256", "text", _is_text),
    ("checkpoint_sha256", "text", _is_text),
    ("name", "text", _is_text),
    ("sampler", "an object", _is_object),
    ("sampler.nfe", "a positive number", _is_count(1)),
    ("sampler.nfe_per_block", "numbers of evaluations", _is_list(_is_count(1))),
    ("precision", f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
    ("clips_actions", "true or false", lambda value: isinstance(value, bool)),
    ("env", "an object", _is_object),
    ("env.id", "text", _is_text),
    ("env.max_episode_steps", "a positive number", _is_count(1)),
    ("parameters", "numbers by part", _is_map(_is_count(0))),
    ("training", "numbers by name", _is_map(lambda value: isinstance(value, (int, float)))),
    ("ranges", "an object", _is_object),
)
"""Key, what is expected of its value, and whether a value is that."""
