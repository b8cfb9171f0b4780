"""Export as a function of a policy, checked by default."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.policy import Policy, load_policy

__all__ = ["export"]


def export(
    policy: Policy | str | Path,
    folder: str | Path,
    *,
    precision: str = "fp32",
    check: bool = True,
) -> Path:
    """Write a policy, with the sampler that it has, as a folder that needs no torch.

    ::

        export(policy, "exported")

        from lfm_policy import OnnxPolicy  # or, where only the runtime is: from lfm_runtime

        action = OnnxPolicy("exported").select_action(obs)

    Args:
        policy: a policy, or where it is.
        folder: appears as a whole; it must not exist.
        precision: ``fp32``; ``fp16``, weights in half precision; or ``int8``, matrix products in
            8 bits.
        check: compare its chunks with those of ``policy`` on 100 observations, of the
            demonstrations if they are still there.

    Returns:
        The folder, with ``policy.onnx`` and ``policy.json``.

    Raises:
        InputError: the folder exists, the extra ``deploy`` is not installed, or the sampler is
            adaptive.
        ExportError: ``check`` found other actions than float32 explains; the folder was removed.
    """
    # Here and not above: it says what to install where that is missing.
    from lfm_policy.exporting import export_policy, require_same_chunks

    if not isinstance(policy, Policy):
        policy = load_policy(policy)
    written = export_policy(policy, folder, precision=precision)
    if check:
        require_same_chunks(policy, written, precision=precision)
    return written
