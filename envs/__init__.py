"""Environments for ``lfm_policy``, registered with gymnasium when this package is imported.

``lfm/PushT-v0`` and ``lfm/PushTImage-v0``: see :mod:`lfm_envs.pusht`. ``lfm/Lift-v0``, ``Can``,
``Square``, ``ToolHang`` and ``Transport``, and ``lfm/LiftImage-v0`` and so on with robomimic's
cameras: see :mod:`lfm_envs.robosuite.env`; ``lfm/Robosuite-v0`` is whatever its ``env_args`` say.
Importing the package needs no simulator; each one is imported when its environment is created.
"""

from __future__ import annotations

from lfm_runtime.user_modules import working_folder

from .environments import ENVIRONMENTS, Environment, declared, env_id_of, prefers_processes
from .errors import EnvArgsError, EnvLookupError, MissingSimulatorError
from .freeze import FreezeAfterEnd
from .lookup import make_named_env
from .outcome import FAULT_KEY, SUCCESS_KEYS, OutcomeError, PlainOutcome, StepOutcome, success_of
from .vector import (
    EnvFactory,
    FreezingSyncVectorEnv,
    FrozenFactory,
    WorkerDiedError,
    make_vector_env,
    vector_env_of,
)

__all__ = [
    "ENVIRONMENTS",
    "FAULT_KEY",
    "SUCCESS_KEYS",
    "EnvArgsError",
    "EnvFactory",
    "EnvLookupError",
    "Environment",
    "FreezeAfterEnd",
    "FreezingSyncVectorEnv",
    "FrozenFactory",
    "MissingSimulatorError",
    "OutcomeError",
    "PlainOutcome",
    "StepOutcome",
    "WorkerDiedError",
    "declared",
    "env_id_of",
    "make_named_env",
    "make_vector_env",
    "prefers_processes",
    "success_of",
    "vector_env_of",
    "working_folder",
]
