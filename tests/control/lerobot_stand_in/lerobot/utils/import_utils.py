"""Stands for `lerobot.utils.import_utils`: how LeRobot finds plugins, and what they make."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging


def register_third_party_plugins():
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata.get("Name") or ""
        if name.startswith(("lerobot_robot_", "lerobot_camera_")):
            try:
                importlib.import_module(name)
            except Exception:
                logging.exception("Could not import third-party plugin: %s", name)


def make_device_from_device_class(config):
    kind = type(config)
    if not kind.__name__.endswith("Config"):
        raise ValueError(f"Config class name '{kind.__name__}' does not end with 'Config'")
    parent = kind.__module__.rpartition(".")[0] or kind.__module__
    return getattr(importlib.import_module(parent), kind.__name__.removesuffix("Config"))(config)
