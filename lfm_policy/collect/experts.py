"""Experts: who demonstrates a task for ``lfm-policy collect``, by the name of the task.

A new one is one file with its `lfm_policy.collect.demonstrator.Demonstrator` and one line here.
"""

from __future__ import annotations

from typing import Any

from lfm_envs.metaworld.tasks import MT10, MT50

from lfm_runtime.registry import Registry

_ROBOSUITE = "lfm_policy.collect.robosuite:RobosuiteDemonstrator"

EXPERTS: Registry[type[Any]] = Registry(
    "expert",
    {
        "Lift": _ROBOSUITE,
        "Can": _ROBOSUITE,
        "Square": _ROBOSUITE,
        "ToolHang": _ROBOSUITE,
        "Transport": _ROBOSUITE,
        "PushT": "lfm_policy.collect.pusht:PushTDemonstrator",
        **dict.fromkeys(MT50, "lfm_policy.collect.metaworld:MetaWorldDemonstrator"),
    },
)

GROUPS = {"MT10": MT10, "MT50": MT50}
"""Names for several tasks, each collected in a file of its own."""
