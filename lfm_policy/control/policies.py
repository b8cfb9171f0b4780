"""From what a user names to a policy that the control loop can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lfm_policy.files import is_file

_SCHEMES = ("ws://", "wss://")


def open_policy(name: str, *, device: str = "auto", threads: int = 1) -> Any:
    """Return a policy.

    Args:
        name: checkpoint, run folder, exported folder, policy of the package, or the address of a
            server that begins with ``ws://`` or ``wss://``.
        device: of a checkpoint.
        threads: CPU threads of a policy call.

    Raises:
        InputError: there is no such policy, or it is damaged.
        ConnectionError: the server cannot be reached.
    """
    if name.startswith(_SCHEMES):
        from lfm_runtime.client import WebsocketClientPolicy

        return WebsocketClientPolicy(name)
    if is_file(Path(name) / "policy.json"):
        from lfm_runtime.onnx_policy import OnnxPolicy

        return OnnxPolicy(name, threads=threads)

    import torch

    from lfm_policy.policy import load_policy
    from lfm_policy.training.accelerator import choose_device

    torch.set_num_threads(threads)
    return load_policy(name, device=choose_device(device))
