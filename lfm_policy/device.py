"""The device that a command was asked for."""

from __future__ import annotations

import torch

from lfm_policy.errors import InputError


def choose_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    # Torch knows kinds of devices that nobody has trained on.
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device '{name}': expected auto, cpu, cuda or cuda:<number>")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device '{name}': torch sees no CUDA device here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device '{name}': there are {torch.cuda.device_count()} CUDA devices here, numbered "
            "from 0"
        )
    return device
