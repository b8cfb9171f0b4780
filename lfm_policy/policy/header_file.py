"""Reading ``config.json``, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lfm_policy.config.plain import plain_options
from lfm_policy.errors import InputError
from lfm_policy.policy.tensors import require_file

MAXIMUM_BYTES = 1_000_000


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size, depth and texts.

    Raises:
        InputError: missing, too large, no JSON object, or outside the bounds of `plain_options`.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(text) > MAXIMUM_BYTES:
        raise InputError(f"{path}: has more than {MAXIMUM_BYTES:,} bytes, far more than expected")
    try:
        content = json.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return plain_options(content, str(path))


def check_training(training: dict[str, Any], n_blocks: int, label: str) -> None:
    """Check what a checkpoint says about its training; keys that are not known are left alone.

    Raises:
        InputError: a key that readers rely on is missing or has another type.
    """
    parts = {"encoder", "total", *(f"block {n}" for n in range(1, n_blocks + 1))}
    rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "complete": ("true or false", lambda value: isinstance(value, bool)),
        "steps": ("a number of steps", _is_count),
        "train_seconds": ("seconds", _is_number),
        "push_seconds": ("seconds", _is_number),
        "block_steps": (
            f"the steps done of each of {n_blocks} block(s)",
            lambda value: _is_list(value, n_blocks, _is_count),
        ),
        "blocks": (
            f"a record of each of {n_blocks} block(s)",
            lambda value: _is_list(value, n_blocks, _is_record),
        ),
        "parameters": (
            "numbers of parameters by part",
            lambda value: (
                isinstance(value, dict)
                and value.keys() <= parts
                and all(_is_count(count) for count in value.values())
            ),
        ),
    }
    for key, (expected, holds) in rules.items():
        if not holds(training.get(key)):
            found = repr(training.get(key))[:200]
            raise InputError(f"{label}: training.{key}: found {found}, expected {expected}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: Any, length: int, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == length and all(holds(v) for v in value)


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_count(value.get("steps"))
        and all(_is_number(value.get(key)) for key in ("train_seconds", "push_seconds"))
        and all(
            value.get(key) is None or _is_number(value[key]) for key in ("loss", "validation_loss")
        )
    )
