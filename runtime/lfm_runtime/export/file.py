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

from lfm_runtime.disk.files import is_file, write_json
from lfm_runtime.disk.input_files import content_digest, read_json_object
from lfm_runtime.errors import InputError
from lfm_runtime.export.description import (
    FORMAT,
    FORMAT_VERSION,
    PRECISIONS,
    ExportDescription,
)
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
    content = description.to_dict()
    write_json(folder / DESCRIPTION_FILE, {**content, "sha256": content_digest(content)})


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
    content = read_json_object(
        file, maximum_bytes=MAXIMUM_JSON_BYTES, maximum_values=MAXIMUM_VALUES
    )
    if content.get("format") != FORMAT:
        raise InputError(
            f"{file}: format: found {str(content.get('format'))[:100]!r}, expected '{FORMAT}'"
        )
    version = content.get("format_version")
    if not isinstance(version, int) or not _is_positive(version):
        raise InputError(f"{file}: format_version: found {str(version)[:100]!r}, expected a number")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{file}: format_version is {version}, this version of lfm-policy-runtime "
            f"({__version__}) reads up to {FORMAT_VERSION}: upgrade lfm-policy-runtime"
        )
    stated = content.pop("sha256", None)
    try:
        digest = content_digest(content)
    except ValueError:
        raise InputError(f"{file}: contains NaN or infinity") from None
    if stated != digest:
        raise InputError(
            f"{file}: its content does not match its checksum: it is damaged or was edited; copy "
            "the folder again"
        )
    return _Reader(content, str(file)).description()


class _Reader:
    """Takes values out of the content, each checked."""

    def __init__(self, content: dict[str, Any], label: str) -> None:
        self._content = content
        self._label = label

    def description(self) -> ExportDescription:
        spec = DataSpec.from_dict(self._content.get("data"), self._label)
        n_obs_steps = self._steps("n_obs_steps", 1)
        horizon = self._steps("horizon", 1)
        n_action_steps = self._steps("n_action_steps", 1)
        if n_action_steps > horizon - n_obs_steps + 1:
            raise self._error("n_action_steps", n_action_steps, "at most horizon - n_obs_steps + 1")
        graph = self._get("graph", "an object", _is_object)
        description = ExportDescription(
            spec=spec,
            n_obs_steps=n_obs_steps,
            horizon=horizon,
            n_action_steps=n_action_steps,
            max_prefix=self._steps("max_prefix", 0),
            ranges=self._ranges(spec),
            graph_sha256=self._text(graph.get("sha256"), "graph.sha256"),
            checkpoint_sha256=self._text(
                self._content.get("checkpoint_sha256"), "checkpoint_sha256"
            ),
            name=self._text(self._content.get("name"), "name"),
            sampler=self._sampler(),
            precision=self._get(
                "precision", f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS
            ),
            clips_actions=self._get(
                "clips_actions", "true or false", lambda value: isinstance(value, bool)
            ),
            env=self._env(),
            parameters=self._get("parameters", "numbers by part", _is_counts),
            training=self._get("training", "numbers by name", _is_numbers_by_name),
        )
        for name, (_, shape) in description.inputs.items():
            if math.prod(shape) > MAXIMUM_INPUT_SIZE:
                raise InputError(
                    f"{self._label}: one row of the input '{name[:100]}' has shape {shape}, "
                    f"expected at most {MAXIMUM_INPUT_SIZE:,} numbers"
                )
        return description

    def _get(self, key: str, expected: str, holds: Callable[[Any], bool]) -> Any:
        value = self._content.get(key)
        if not holds(value):
            raise self._error(key, value, expected)
        return value

    def _steps(self, key: str, lowest: int) -> int:
        def holds(value: Any) -> bool:
            return _is_count(value) and lowest <= value <= MAXIMUM_STEPS

        steps: int = self._get(key, f"a number from {lowest} to {MAXIMUM_STEPS:,}", holds)
        return steps

    def _text(self, value: Any, key: str) -> str:
        if not isinstance(value, str):
            raise self._error(key, value, "text")
        return value

    def _sampler(self) -> dict[str, Any]:
        sampler: dict[str, Any] = self._get("sampler", "an object", _is_object)
        per_block = sampler.get("nfe_per_block")
        for key, value, expected, holds in (
            ("nfe", sampler.get("nfe"), "a positive number", _is_positive),
            ("solver", sampler.get("solver"), "text", lambda value: isinstance(value, str)),
            ("noise_scale", sampler.get("noise_scale"), "a number", _is_number),
            (
                "nfe_per_block",
                per_block,
                "numbers of evaluations",
                lambda value: isinstance(value, list) and all(_is_positive(n) for n in value),
            ),
        ):
            if not holds(value):
                raise self._error(f"sampler.{key}", value, expected)
        return sampler

    def _env(self) -> dict[str, Any]:
        env: dict[str, Any] = self._get("env", "an object", _is_object)
        self._text(env.get("id"), "env.id")
        if not _is_positive(env.get("max_episode_steps")):
            raise self._error(
                "env.max_episode_steps", env.get("max_episode_steps"), "a positive number"
            )
        return env

    def _ranges(self, spec: DataSpec) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        given = self._get("ranges", "an object", _is_object)
        shapes = {key: shape for key, shape in spec.obs_shapes.items() if not is_image(shape)}
        shapes["action"] = (spec.action_dim,)
        ranges = {}
        for key, shape in shapes.items():
            entry = given.get(key)
            ends = [entry.get(end) if _is_object(entry) else None for end in ("low", "high")]
            if not all(_is_numbers(end, math.prod(shape)) for end in ends):
                raise self._error(
                    f"ranges.{key[:100]}", entry, f"low and high of {math.prod(shape)} number(s)"
                )
            low, high = (np.array(end, dtype=spec.dtype(key)).reshape(shape) for end in ends)
            if not (low <= high).all():
                raise self._error(f"ranges.{key[:100]}", entry, "low at most high")
            ranges[key] = (low, high)
        return ranges

    def _error(self, key: str, found: Any, expected: str) -> InputError:
        return InputError(f"{self._label}: {key}: found {str(found)[:100]!r}, expected {expected}")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_numbers(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(v) for v in value)


def _is_numbers_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, (bool, int, float)) for v in value.values()
    )


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(count) for count in value.values())
