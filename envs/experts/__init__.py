"""Scripted experts: they demonstrate the robosuite tasks, each episode in another way.

>>> expert = make_expert("Lift", np.random.default_rng(0))
>>> action = expert.act(obs, simulator)  # every step of one episode
"""

from __future__ import annotations

import importlib

import numpy as np

from .expert import Expert
from .style import Style

__all__ = ["EXPERT_TASKS", "Expert", "Style", "make_expert"]

_CLASSES = {
    "Lift": "lift:LiftExpert",
    "Can": "can:CanExpert",
    "Square": "square:SquareExpert",
    "ToolHang": "tool_hang:ToolHangExpert",
    "Transport": "transport:TransportExpert",
}

EXPERT_TASKS = tuple(_CLASSES)
"""Tasks that there is an expert for."""


def make_expert(task: str, generator: np.random.Generator) -> Expert:
    """Return an expert for one episode of a task.

    Args:
        task: one of :data:`EXPERT_TASKS`.
        generator: determines how he goes about it.

    Raises:
        ValueError: there is no expert for this task.
    """
    if task not in _CLASSES:
        raise ValueError(f"there is no expert for '{task}'; known: {', '.join(EXPERT_TASKS)}")
    module, name = _CLASSES[task].split(":")
    expert: type[Expert] = getattr(importlib.import_module(f".{module}", __name__), name)
    return expert(generator)
