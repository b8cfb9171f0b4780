"""Environments for ``lfm_policy``, registered with gymnasium when this package is imported.

``lfm/PushT-v0``, ``lfm/PushTImage-v0`` and ``lfm/PushTImageState-v0``: see :mod:`lfm_envs.pusht`.
``lfm/Lift-v0``, ``Can``, ``Square``, ``ToolHang`` and ``Transport``, and ``lfm/LiftImage-v0`` and
so on with robomimic's cameras: see :mod:`lfm_envs.robosuite.env`; ``lfm/Robosuite-v0`` is whatever
its ``env_args`` say.
``lfm/AlohaTransferCube-v0`` and ``lfm/AlohaInsertion-v0``, and ``Image`` of both with their camera:
see :mod:`lfm_envs.aloha`.
Importing the package needs no simulator; each one is imported when its environment is created.
"""

from __future__ import annotations

from lfm_runtime.user_modules import working_folder

from .environments import ENVIRONMENTS, Environment, declared, env_id_of, prefers_processes
from .errors import EnvArgsError, EnvLookupError, MissingSimulatorError, ObservationError
from .freeze import FreezeAfterEnd
from .lookup import make_named_env, registered_steps
from .outcome import FAULT_KEY, SUCCESS_KEYS, OutcomeError, PlainOutcome, StepOutcome, success_of
from .reading import AS_GIVEN, Reading, leaves
from .vector import (
    EnvFactory,
    FreezingSyncVectorEnv,
    FrozenFactory,
    WorkerDiedError,
    make_vector_env,
    vector_env_of,
)

__all__ = [
    "AS_GIVEN",
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
    "ObservationError",
    "OutcomeError",
    "PlainOutcome",
    "Reading",
    "StepOutcome",
    "WorkerDiedError",
    "declared",
    "env_id_of",
    "leaves",
    "make_named_env",
    "make_vector_env",
    "prefers_processes",
    "registered_steps",
    "success_of",
    "vector_env_of",
    "working_folder",
]
