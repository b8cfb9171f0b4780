"""What environments of all simulators check: versions, sizes, options of ``reset``, rendering."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``"1.5.1rc2"`` -> (1, 5, 1)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def checked_size(name: str, value: Any) -> int:
    """Return a width or height in pixels.

    Raises:
        ValueError: it is none, or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096:
        raise ValueError(f"{name} must be an integer from 1 to 4096, but it is {value!r}")
    return value


def check_render_mode(mode: str | None) -> None:
    """Check a render mode.

    Raises:
        ValueError: it is neither None nor ``"rgb_array"``.
    """
    if mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be None or 'rgb_array', but it is {mode!r}")


def draws(env: gym.Env[Any, Any]) -> bool:
    """Whether ``render()`` draws; warns where there is no render mode, as gymnasium's own do."""
    if env.render_mode is None:
        gym.logger.warn('render() draws nothing without render_mode="rgb_array"')
    return env.render_mode is not None


def reset_option(options: Mapping[str, Any] | None, name: str) -> Any:
    """Return the only option that ``reset`` takes, or None.

    Raises:
        ValueError: there are others.
    """
    given = dict(options or {})
    found = given.pop(name, None)
    if given:
        raise ValueError(
            f"unknown reset option {', '.join(map(repr, given))}; the only one is '{name}'"
        )
    return found
