"""Checking ``config.json``, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lfm_policy.errors import InputError


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
