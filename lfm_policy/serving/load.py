"""From a path to a policy that can be served."""

from __future__ import annotations

from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy
from lfm_policy.serving.served import ServedPolicy, served_policy
from lfm_runtime.export.file import is_export


def load_served_policy(
    path: str,
    *,
    device: str = "auto",
    threads: int = 1,
    solver: str | None = None,
    nfe: int | None = None,
    noise_scale: float | None = None,
) -> ServedPolicy:
    """Load a checkpoint or an exported policy.

    Args:
        path: checkpoint, run folder, exported folder, or a policy of the package.
        device: of a checkpoint; ``auto`` takes a GPU if there is one.
        threads: CPU threads of a policy call.
        solver: another one than configured; checkpoints only.
        nfe: another number of network evaluations than configured; checkpoints only.
        noise_scale: another standard deviation of the noise; checkpoints only.

    Raises:
        InputError: there is no such policy, it is damaged, or the sampler does not fit.
    """
    if is_export(path):
        if (solver, nfe, noise_scale) != (None, None, None):
            raise InputError(
                f"{path}: an exported policy has its sampler inside: leave --solver, --nfe and "
                "--noise-scale out, or export it again with others"
            )
        from lfm_runtime.export.onnx_policy import OnnxPolicy

        return served_policy(OnnxPolicy(path, threads=threads))
    import torch

    from lfm_policy.device import choose_device

    torch.set_num_threads(threads)
    policy = load_policy(path, device=choose_device(device))
    policy.set_sampler(solver=solver, nfe=nfe, noise_scale=noise_scale)
    return served_policy(policy)
