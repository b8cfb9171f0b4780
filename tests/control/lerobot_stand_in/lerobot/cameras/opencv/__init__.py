"""Stands for cameras of OpenCV: only what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lerobot.cameras import CameraConfig


@CameraConfig.register_subclass("opencv")
@dataclass
class OpenCVCameraConfig(CameraConfig):
    index_or_path: int | Path
