"""In which environment the demonstrations of a robomimic file were recorded, as the file says it.

Training needs none of it, so whatever is wrong with it is said to who asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lfm_policy.data.hdf5.array import as_text, reading
from lfm_policy.data.hdf5.file import Hdf5Group
from lfm_policy.errors import InputError, brief

ENV_ARGS = "env_args"
"""Attribute of ``data``: JSON."""

_RAW = ("env", "env_info")
"""The same in robosuite's raw recordings: the name, and JSON of the arguments."""

ROBOSUITE_TYPE = 1
"""What ``type`` is of environments of robosuite. `lfm_envs` has it too, and imports
gymnasium, which reading demonstrations does without."""

_MOST_BYTES = 2**20
_MOST_HERTZ = 1e5


def env_args_of(data: Hdf5Group, *, raw: bool = False) -> dict[str, Any]:
    """Return ``env_args`` of the group ``data``; see `RobomimicFile.env_args`."""
    source = f"{data.name}.attrs['{ENV_ARGS}']"
    if data.has_attribute(ENV_ARGS):
        return check_env_args(_parsed(data.attribute(ENV_ARGS, _MOST_BYTES), source), source)
    held = [key for key in _RAW if data.has_attribute(key)]
    if not raw or len(held) < len(_RAW):
        hint = f" (it has {' and '.join(held)}: {replay_hint(data.path)})" if held else ""
        raise InputError(f"{source} is absent, expected JSON{hint}")
    source = f"{data.name}.attrs['env_info']"
    said = data.has_attribute("repository_version")
    with reading(source):
        name = as_text(data.attribute("env"))
        version = as_text(data.attribute("repository_version")) if said else ""
    kwargs = _parsed(data.attribute("env_info", _MOST_BYTES), source)
    if isinstance(kwargs, dict):
        kwargs.pop("env_name", None)
    described = {"env_name": name, "env_version": version, "type": 1, "env_kwargs": kwargs}
    return check_env_args(described, source)


def replay_hint(path: Path) -> str:
    """Return what to do with a recording that holds no observations."""
    return (
        "it is a recording of simulator states: observations have to be extracted by replaying "
        f"its states: lfm-policy extract {path} {path.with_name('low_dim.hdf5')}"
    )


def control_freq(env_args: Mapping[str, Any] | None) -> float | None:
    """Return the steps per second that a description tells of; None where it does not."""
    rate = env_args["env_kwargs"].get("control_freq") if env_args else None
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate <= _MOST_HERTZ:
        return float(rate)
    return None


def check_env_args(value: Any, source: str) -> dict[str, Any]:
    """Return a description of an environment, parsed JSON, once it is checked.

    Raises:
        InputError: it is no object, or a part of it is absent or of another type.
    """
    if not isinstance(value, dict):
        raise InputError(f"{source} is {type(value).__name__}; expected an object")
    expected: Mapping[str, tuple[type, str]] = {
        "env_name": (str, "the name of the environment"),
        "type": (int, "a number; 1 is robosuite"),
        "env_kwargs": (dict, "an object: arguments of the environment"),
    }
    for key, (kind, meaning) in expected.items():
        if key not in value:
            raise InputError(f"{source} has no '{key}'; expected {meaning}")
        if not isinstance(value[key], kind) or isinstance(value[key], bool):
            raise InputError(f"{source} has {key} {value[key]!r:.100}; expected {meaning}")
    if not isinstance(value.get("env_version", ""), str | None):
        raise InputError(f"{source} has env_version {value['env_version']!r:.100}; expected text")
    return value


def _parsed(value: Any, source: str) -> Any:
    try:
        return json.loads(as_text(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{source} does not parse as JSON ({brief(error)}); expected an object with env_name, "
            "type and env_kwargs"
        ) from None
