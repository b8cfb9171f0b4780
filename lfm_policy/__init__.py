"""Action-chunk policies by Local Flow Matching: train block by block, roll out, deploy.

All that a notebook needs is here, and is imported when it is asked for::

    from lfm_policy import Dataset, distill, evaluate, export, load_policy, train

    policy = train("own/state", Dataset.from_episodes(episodes, fps=10), output="runs/arm")

See `lfm_policy.api` for what is made of data, and ``docs/notebooks`` for whole stories.
"""

from __future__ import annotations

from lfm_policy.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lfm_policy.api.dataset import Dataset, write_zarr
    from lfm_policy.control.gym_robot import GymRobot
    from lfm_policy.control.lerobot_robot import LeRobotRobot
    from lfm_policy.errors import InputError
    from lfm_policy.policy import Policy, load_policy
    from lfm_runtime.plugins import load_plugin

__all__ = [
    "Dataset",
    "GymRobot",
    "InputError",
    "LeRobotRobot",
    "Policy",
    "__version__",
    "load_plugin",
    "load_policy",
    "write_zarr",
]

_WHERE = {
    "Dataset": "lfm_policy.api.dataset",
    "GymRobot": "lfm_policy.control.gym_robot",
    "InputError": "lfm_policy.errors",
    "LeRobotRobot": "lfm_policy.control.lerobot_robot",
    "Policy": "lfm_policy.policy",
    "load_plugin": "lfm_runtime.plugins",
    "load_policy": "lfm_policy.policy",
    "write_zarr": "lfm_policy.api.dataset",
}


def __getattr__(name: str) -> Any:
    # `lfm-policy --help` and `import lfm_envs` should not wait for torch; and Ctrl-C is only caught
    # once the command begins, so that what is imported before should take no time at all.
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'lfm_policy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
