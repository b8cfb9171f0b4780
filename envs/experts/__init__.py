"""Scripted experts: they demonstrate the robosuite tasks, each episode in another way.

>>> expert = EXPERTS.make("Lift", np.random.default_rng(0))  # determines one episode
>>> action = expert.act(obs, simulator)  # every step of it
"""

from __future__ import annotations

from lfm_runtime.registry import Registry

from .expert import Expert
from .hand import Style

__all__ = ["EXPERTS", "Expert", "Style"]

EXPERTS: Registry[type[Expert]] = Registry(
    "scripted expert",
    {
        "Lift": f"{__name__}.lift:LiftExpert",
        "Can": f"{__name__}.can:CanExpert",
        "Square": f"{__name__}.square:SquareExpert",
        "ToolHang": f"{__name__}.tool_hang:ToolHangExpert",
        "Transport": f"{__name__}.transport:TransportExpert",
    },
)
