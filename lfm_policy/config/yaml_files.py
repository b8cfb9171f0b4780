"""Reading YAML that a person wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lfm_policy.errors import InputError

MAXIMUM_FILE_BYTES = 1_000_000


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file, as they stand there; none of an empty one.

    Raises:
        InputError: it cannot be read, is too large, or holds something else.
    """
    options = parse_yaml(_read_text(path), str(path))
    if not isinstance(options := {} if options is None else options, dict):
        raise InputError(f"{path}: expected keys and values, found a {type(options).__name__}")
    return options


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_FILE_BYTES + 1)
        if len(content) > MAXIMUM_FILE_BYTES:
            raise InputError(
                f"{path}: is larger than {MAXIMUM_FILE_BYTES:,} bytes: no configuration"
            )
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None


def parse_yaml(text: str, label: str) -> Any:
    """Return what YAML says, as plain values.

    Raises:
        InputError: it is not valid; ``label`` stands for its place in the message.
    """
    try:
        return yaml.safe_load(text)
    # ValueError: a date such as 2024-13-45 or a number of thousands of digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{label}: not valid YAML: {str(error)[:500]}") from None
