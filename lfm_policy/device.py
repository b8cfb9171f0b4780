"""The device that a command was asked for, and the precision there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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


def autocast(mixed_precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which networks of ``training.mixed_precision`` compute.

    On a processor with matrix units for bfloat16 (Intel's since 2023) an image encoder is two to
    three times faster in it. Half precision is for GPUs alone.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision)
    if dtype is None or (dtype == torch.float16 and device.type == "cpu"):
        return nullcontext()
    return torch.autocast(device.type, dtype)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast, where it is on, leaves products of matrices in float32.

    The 8 bits of a bfloat16 tell a place in an image of 96 pixels to no better than a fifth of a
    pixel, and levels of a camera's 255 to no better than a whole one.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # an exported graph is to know nothing of it
