"""From what a user names to a policy: a checkpoint, an export, or what a server serves."""

from __future__ import annotations

from typing import Any

from lfm_policy.config.flow import Evaluations, StepTimes
from lfm_policy.errors import InputError
from lfm_runtime.export.file import is_export

SCHEMES = ("ws://", "wss://")


def open_policy(
    name: str,
    *,
    device: str = "auto",
    threads: int = 1,
    wait: float = 10.0,
    solver: str | None = None,
    nfe: Evaluations | None = None,
    times: StepTimes | None = None,
    noise_scale: float | None = None,
    renoise: float | None = None,
    guidance: float | None = None,
) -> Any:
    """Return a policy.

    Args:
        name: checkpoint, run folder, exported folder, policy of the package or of the Hugging Face
            hub (``user/name``), or the address of a server that begins with ``ws://`` or
            ``wss://``.
        device: of a checkpoint.
        threads: CPU threads of a policy call.
        wait: seconds to wait for a server that is still starting.
        solver: another one than configured; checkpoints only.
        nfe: other network evaluations than configured, see `Policy.set_sampler`; checkpoints only.
        times: other ends of steps inside blocks, see there; checkpoints only.
        noise_scale: another standard deviation of the noise; checkpoints only.
        renoise: another share of each block's noise; checkpoints only.
        guidance: another weight of the observation; checkpoints only.

    Raises:
        InputError: there is no such policy, it is damaged, or the sampler does not fit.
        ConnectionError: the server cannot be reached.
    """
    remote, exported = name.startswith(SCHEMES), is_export(name)
    sampler: dict[str, Any] = {
        "solver": solver,
        "nfe": nfe,
        "times": times,
        "noise_scale": noise_scale,
        "renoise": renoise,
        "guidance": guidance,
    }
    if (remote or exported) and any(value is not None for value in sampler.values()):
        where = "the server's" if remote else "an exported policy's"
        raise InputError(
            f"{name}: {where} sampler cannot be changed from here: leave --solver, --nfe, --times, "
            "--noise-scale, --renoise and --guidance out"
            + ("" if remote else ", or export it again with others")
        )
    if remote:
        from lfm_runtime.wire.client import WebsocketClientPolicy

        return WebsocketClientPolicy(name, wait=wait)
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
