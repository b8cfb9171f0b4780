"""Action-chunk policies by Local Flow Matching: train block by block, roll out, deploy.

All that a notebook needs is here, and is imported when it is asked for::

    from lfm_policy import Dataset, check, distill, evaluate, export, load_policy, train

    policy = train("own/state", Dataset.from_episodes(episodes, fps=10), output="runs/arm")

See `lfm_policy.api` for what is made of data, and ``docs/notebooks`` for whole stories.
"""

from __future__ import annotations

from lfm_policy.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lfm_policy.api.dataset import Dataset, write_zarr
    from lfm_policy.api.evaluation import Evaluation, evaluate
    from lfm_policy.api.exporting import export
    from lfm_policy.api.training import distill, train
    from lfm_policy.assets import bundled_demonstrations
    from lfm_policy.checking import PolicyCheck, check
    from lfm_policy.config import ExperimentConfig, load_config
    from lfm_policy.control.gym_robot import GymRobot
    from lfm_policy.control.lerobot_robot import LeRobotRobot
    from lfm_policy.errors import InputError, Interrupted, TrainingError
    from lfm_policy.policy import Policy, load_policy
    from lfm_runtime import OnnxPolicy, WebsocketClientPolicy
    from lfm_runtime.control import ControlLoop, ControlOptions, ControlResult, Recorder, Robot
    from lfm_runtime.plugins import load_plugin

__all__ = [
    "ControlLoop",
    "ControlOptions",
    "ControlResult",
    "Dataset",
    "Evaluation",
    "ExperimentConfig",
    "GymRobot",
    "InputError",
    "Interrupted",
    "LeRobotRobot",
    "OnnxPolicy",
    "Policy",
    "PolicyCheck",
    "Recorder",
    "Robot",
    "TrainingError",
    "WebsocketClientPolicy",
    "__version__",
    "bundled_demonstrations",
    "check",
    "distill",
    "evaluate",
    "export",
    "load_config",
    "load_plugin",
    "load_policy",
    "train",
    "write_zarr",
]

_WHERE = {
    "ControlLoop": "lfm_runtime.control",
    "ControlOptions": "lfm_runtime.control",
    "ControlResult": "lfm_runtime.control",
    "Dataset": "lfm_policy.api.dataset",
    "Evaluation": "lfm_policy.api.evaluation",
    "ExperimentConfig": "lfm_policy.config",
    "GymRobot": "lfm_policy.control.gym_robot",
    "InputError": "lfm_policy.errors",
    "Interrupted": "lfm_policy.errors",
    "LeRobotRobot": "lfm_policy.control.lerobot_robot",
    "OnnxPolicy": "lfm_runtime",
    "Policy": "lfm_policy.policy",
    "PolicyCheck": "lfm_policy.checking",
    "Recorder": "lfm_runtime.control",
    "Robot": "lfm_runtime.control",
    "TrainingError": "lfm_policy.errors",
    "WebsocketClientPolicy": "lfm_runtime",
    "bundled_demonstrations": "lfm_policy.assets",
    "check": "lfm_policy.checking",
    "distill": "lfm_policy.api.training",
    "evaluate": "lfm_policy.api.evaluation",
    "export": "lfm_policy.api.exporting",
    "load_config": "lfm_policy.config",
    "load_plugin": "lfm_runtime.plugins",
    "load_policy": "lfm_policy.policy",
    "train": "lfm_policy.api.training",
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
