"""The accelerator of a run, and options that this machine may not have."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, is_initialized

from lfm_policy.config.training import TrainingConfig


def available_options(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """Return the options with what cannot work here turned off, and say so."""
    if config.mixed_precision == "fp16" and device.type == "cpu":
        warnings.warn(
            "training.mixed_precision=fp16 needs a GPU: training in float32 instead", stacklevel=2
        )
        config = replace(config, mixed_precision="no")
    no_bf16 = device.type == "cuda" and not torch.cuda.is_bf16_supported()
    if config.mixed_precision == "bf16" and no_bf16:
        warnings.warn("this GPU has no bfloat16: training in float32 instead", stacklevel=2)
        config = replace(config, mixed_precision="no")
    if config.compile and (reason := _compile_fails(device)):
        warnings.warn(
            f"training.compile=true does not work here ({reason}): training without it",
            stacklevel=2,
        )
        config = replace(config, compile=False)
    return config


def _compile_fails(device: torch.device) -> str:
    """Return why torch.compile cannot be used here; empty when it can."""
    try:
        doubled = torch.compile(lambda x: torch.nn.functional.silu(x) * 2)
        doubled(torch.ones(4, device=device))
    except Exception as error:
        return (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ""


def make_accelerator(config: TrainingConfig, device: torch.device) -> Accelerator:
    """Return the accelerator: one process, or as many as ``accelerate launch`` started."""
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if device.type == "cuda" and device.index is not None:
        # accelerate takes the current GPU, or in several processes one for each of them.
        torch.cuda.set_device(device)
    _forget_earlier_run(config.mixed_precision, device)
    return Accelerator(mixed_precision=config.mixed_precision, cpu=device.type == "cpu")


def mean_of_processes(accelerator: Accelerator, own: Mapping[str, float]) -> dict[str, float]:
    """Return means over all processes of what each has; all of them have to ask for it."""
    if accelerator.num_processes == 1:
        return dict(own)
    values = torch.tensor(list(own.values()), dtype=torch.float64, device=accelerator.device)
    means: torch.Tensor = accelerator.reduce(values, reduction="mean")
    return dict(zip(own, means.tolist(), strict=True))


@contextmanager
def matrix_products(config: TrainingConfig, device: torch.device) -> Iterator[None]:
    """Multiply matrices of float32 as exactly as the options say, and as before afterwards."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cpu":
        wanted = "medium" if config.bf16_products else "highest"
    else:
        wanted = "high" if config.tf32 else "highest"
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _forget_earlier_run(mixed_precision: str, device: torch.device) -> None:
    """Let a second run in this process have another precision or device than the first.

    accelerate keeps one state per process, of which it changes nothing: another precision would be
    an error, a GPU after a run on the CPU would be ignored.
    """
    if not is_initialized():
        return
    state = AcceleratorState()
    if state.distributed_type == DistributedType.NO and state.device.type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    elif state.mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
