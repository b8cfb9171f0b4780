"""Environments for ``lfm_policy``, registered with gymnasium when this package is imported.

``lfm/PushT-v0`` and ``lfm/PushTImage-v0``: see :mod:`lfm_envs.pusht`. ``lfm/Lift-v0``, ``Can``,
``Square``, ``ToolHang`` and ``Transport``, and ``lfm/LiftImage-v0`` and so on with robomimic's
cameras: see :mod:`lfm_envs.robosuite.env`; ``lfm/Robosuite-v0`` is whatever its ``env_args`` say.
Importing the package needs no simulator; each one is imported when its environment is created.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from .errors import EnvArgsError, EnvLookupError, MissingSimulatorError
from .freeze import FreezeAfterEnd
from .lookup import make_named_env, working_folder
from .outcome import FAULT_KEY, SUCCESS_KEYS, OutcomeError, PlainOutcome, StepOutcome, success_of
from .robosuite.tasks import ROBOSUITE_TYPE
from .robosuite.tasks import TASKS as _ROBOSUITE_TASKS
from .robosuite.tasks import task_of as _task_of
from .vector import EnvFactory, FreezingSyncVectorEnv, WorkerDiedError, make_vector_env

__all__ = [
    "FAULT_KEY",
    "SUCCESS_KEYS",
    "EnvArgsError",
    "EnvFactory",
    "EnvLookupError",
    "FreezeAfterEnd",
    "FreezingSyncVectorEnv",
    "MissingSimulatorError",
    "OutcomeError",
    "PlainOutcome",
    "StepOutcome",
    "WorkerDiedError",
    "env_id_of",
    "make_named_env",
    "make_vector_env",
    "prefers_processes",
    "success_of",
    "working_folder",
]

_ROBOSUITE = "robosuite.env:RobosuiteEnv"
_ANY_ROBOSUITE = "lfm/Robosuite-v0"

# Id, class (imported when the environment is created), steps until an episode is truncated, and
# arguments of the class.
_ENVIRONMENTS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("lfm/PushT-v0", "pusht:PushTEnv", 300, {}),
    ("lfm/PushTImage-v0", "pusht:PushTImageEnv", 300, {}),
    (_ANY_ROBOSUITE, _ROBOSUITE, 500, {}),
]
for _name, _task in _ROBOSUITE_TASKS.items():
    _steps = _task.max_episode_steps
    _cameras = {"task": _name, "cameras": _task.cameras}
    _ENVIRONMENTS += [
        (f"lfm/{_name}-v0", _ROBOSUITE, _steps, {"task": _name}),
        (f"lfm/{_name}Image-v0", _ROBOSUITE, _steps, _cameras),
    ]

for _id, _class, _steps, _arguments in _ENVIRONMENTS:
    if _id not in gym.registry:  # importlib.reload would register it again, with a warning
        gym.register(
            id=_id,
            entry_point=f"{__name__}.{_class}",
            max_episode_steps=_steps,
            kwargs=_arguments,
        )


def prefers_processes(env_id: str) -> bool:
    """Whether an environment is slow enough for a process of its own; False for unknown ones."""
    return any(known == env_id and where == _ROBOSUITE for known, where, *_ in _ENVIRONMENTS)


def env_id_of(env_args: Mapping[str, Any]) -> str:
    """Return the id for a description of an environment, as in a robomimic file.

    Those of robosuite (type 1) take the description as their option ``env_args``. Empty for an
    environment that is not here.
    """
    name = str(env_args.get("env_name"))
    if env_args.get("type") != ROBOSUITE_TYPE:
        return name if any(known == name for known, *_ in _ENVIRONMENTS) else ""
    task = _task_of(name)
    return _ANY_ROBOSUITE if task is None else f"lfm/{task}-v0"
