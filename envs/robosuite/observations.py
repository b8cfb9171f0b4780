"""Observations of a robosuite environment under the names that robomimic gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def observations_of(simulator: Any, *, old_object_order: bool) -> dict[str, NDArray[np.float32]]:
    """Return the low-dimensional observations of the present state.

    Args:
        simulator: the robosuite environment, derived quantities up to date.
        old_object_order: list the pose of an object before its pose relative to the gripper, as
            robosuite did before 1.5.

    Returns:
        ``object`` and every ``robot<i>_...``, float32 vectors.
    """
    # Twice, because robosuite 1.5 computes some relative poses before the poses they depend on,
    # and so from those of the state before.
    simulator._update_observables(force=True)
    raw = simulator._get_observations(force_update=True)
    prefixes = tuple(robot.robot_model.naming_prefix for robot in simulator.robots)
    observables = simulator._observables
    names = [n for n in raw if n in observables and observables[n].modality == "object"]
    if old_object_order:
        names = _old_order(names)
    observations = {"object": np.concatenate([np.atleast_1d(raw[name]) for name in names])}
    for name, value in raw.items():
        if name.startswith(prefixes) and not name.endswith("proprio-state"):
            observations[name] = np.atleast_1d(value)
    return {name: np.asarray(value, dtype=np.float32) for name, value in observations.items()}


def _old_order(names: list[str]) -> list[str]:
    """Put ``X_to_..._eef_pos`` and ``X_to_..._eef_quat`` behind ``X_quat``."""
    relative = [n for n in names if "_to_" in n and n.endswith(("eef_pos", "eef_quat"))]
    ordered: list[str] = []
    for name in names:
        if name not in relative:
            ordered.append(name)
        if name.endswith("_quat") and name not in relative:
            of = name.removesuffix("_quat")
            ordered += [r for r in relative if r.startswith(f"{of}_to_")]
    return ordered
