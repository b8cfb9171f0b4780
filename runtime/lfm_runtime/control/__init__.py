"""Real-time control: a robot at a fixed rate, a policy in another thread, safe joins."""

from __future__ import annotations

from lfm_runtime.control.clock import Clock, RealClock, SimulatedClock
from lfm_runtime.control.loop import ControlLoop
from lfm_runtime.control.options import ControlOptions
from lfm_runtime.control.planning.inference import Inference, SimulatedInference, ThreadedInference
from lfm_runtime.control.recording.recorder import Recorder
from lfm_runtime.control.result import ControlResult
from lfm_runtime.control.robot import Robot

__all__ = [
    "Clock",
    "ControlLoop",
    "ControlOptions",
    "ControlResult",
    "Inference",
    "RealClock",
    "Recorder",
    "Robot",
    "SimulatedClock",
    "SimulatedInference",
    "ThreadedInference",
]
