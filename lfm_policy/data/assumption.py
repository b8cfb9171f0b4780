"""What a reader takes for granted because the data do not say it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping


class AssumptionWarning(UserWarning):
    """Something that a format has and that was not needed is absent; says what was taken."""


def warn_assumed(source: object, assumed: Mapping[str, str]) -> None:
    """Warn once per entry.

    Args:
        source: file or folder.
        assumed: name of what is absent -> what is taken in its place, in words.
    """
    for name, text in assumed.items():
        warnings.warn(f"{source}: {name} is missing: assumed that {text}", AssumptionWarning, 3)
