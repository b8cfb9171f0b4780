"""Environments for ``lfm_policy``, registered with gymnasium when this package is imported.

``lfm/PushT-v0`` and ``lfm/PushTImage-v0``: see :mod:`lfm_envs.pusht`. Importing the package needs
no simulator; each one is imported when its environment is created.
"""

from __future__ import annotations

import gymnasium as gym

from .errors import MissingSimulatorError
from .freeze import FreezeAfterEnd
from .vector import EnvFactory, FreezingSyncVectorEnv, make_vector_env

__all__ = [
    "EnvFactory",
    "FreezeAfterEnd",
    "FreezingSyncVectorEnv",
    "MissingSimulatorError",
    "make_vector_env",
]

# Id, class (imported when the environment is created) and steps until an episode is truncated.
_ENVIRONMENTS = (
    ("lfm/PushT-v0", "pusht:PushTEnv", 300),
    ("lfm/PushTImage-v0", "pusht:PushTImageEnv", 300),
)

for _id, _class, _max_steps in _ENVIRONMENTS:
    if _id not in gym.registry:  # importlib.reload would register it again, with a warning
        gym.register(id=_id, entry_point=f"{__name__}.{_class}", max_episode_steps=_max_steps)
