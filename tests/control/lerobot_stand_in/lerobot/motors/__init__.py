"""Stands for `lerobot.motors`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class MotorNormMode(str, Enum):  # noqa: UP042
    RANGE_0_100 = "range_0_100"
    RANGE_M100_100 = "range_m100_100"
    DEGREES = "degrees"


@dataclass
class Motor:
    id: int
    model: str
    norm_mode: MotorNormMode
