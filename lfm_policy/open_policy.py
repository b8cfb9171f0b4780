"""From what a user names to a policy: a checkpoint, an export, or what a server serves."""

from __future__ import annotations

from typing import Any, Unpack

from lfm_policy.config.sampler import SamplerChanges
from lfm_policy.errors import InputError
from lfm_runtime.export.file import is_export

SCHEMES = ("ws://", "wss://")


def open_policy(
    name: str,
    *,
    device: str = "auto",
    threads: int = 1,
    wait: float = 10.0,
    api_key: str | None = None,
    **sampler: Unpack[SamplerChanges],
) -> Any:
    """Return a policy.

    Args:
        name: checkpoint, run folder, exported folder, policy of the package or of the Hugging Face
            hub (``user/name``), or the address of a server that begins with ``ws://`` or
            ``wss://``.
        device: of a checkpoint.
        threads: CPU threads of a policy call.
        wait: seconds to wait for a server that is still starting.
        api_key: for a server that asks for one.
        sampler: others than configured, see `Policy.set_sampler`; checkpoints only.

    Raises:
        InputError: there is no such policy, it is damaged, the sampler does not fit, or a key is
            given for a policy that is no server's.
        ConnectionError: the server cannot be reached.
    """
    remote, exported = name.startswith(SCHEMES), is_export(name)
    if (remote or exported) and any(value is not None for value in sampler.values()):
        where = "the server's" if remote else "an exported policy's"
        flags = [f"--{key.replace('_', '-')}" for key in SamplerChanges.__annotations__]
        raise InputError(
            f"{name}: {where} sampler cannot be changed from here: leave {', '.join(flags[:-1])} "
            f"and {flags[-1]} out" + ("" if remote else ", or export it again with others")
        )
    if remote:
        from lfm_runtime.wire.client import WebsocketClientPolicy

        return WebsocketClientPolicy(name, wait=wait, api_key=api_key)
    if api_key is not None:
        raise InputError(f"{name}: no server is asked, so there is nobody to show a key to")
    if exported:
        from lfm_runtime.export.onnx_policy import OnnxPolicy

        return OnnxPolicy(name, threads=threads)

    import torch

    from lfm_policy.device import choose_device
    from lfm_policy.policy import load_policy

    torch.set_num_threads(threads)
    policy = load_policy(name, device=choose_device(device))
    policy.set_sampler(**sampler)
    return policy
