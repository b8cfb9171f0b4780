"""All options in words, from the dataclasses themselves."""

from __future__ import annotations

import dataclasses
from typing import Any


def describe_options(config: Any, prefix: str = "") -> str:
    """Return one line per option: key, type, current value and meaning."""
    lines = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            lines.append(describe_options(value, f"{key}."))
            continue
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        text = field.metadata.get("help", "")
        choices = field.metadata.get("choices")
        allowed = f" ({', '.join(choices)})" if choices else ""
        lines.append(f"{key}: {kind} = {value!r}\n    {text}{allowed}")
    return "\n".join(lines)
