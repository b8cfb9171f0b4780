"""Memory and disk that a training needs, from sizes that are known beforehand."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lfm_policy.data.images.cache import cached_bytes
from lfm_policy.machine import free_disk, total_memory
from lfm_policy.text.numbers import size
from lfm_policy.training.estimate.trial import Counts
from lfm_policy.training.estimate.work import Share
from lfm_policy.training.run import JOINT, Run
from lfm_runtime.policy.spec import is_image

FLOAT = 4
"""Bytes of a float32."""

COPIES = 5
"""Of every trained number besides itself: gradient, two moments of Adam, EMA, and the trained value
while the network holds the EMA."""

STEP_FACTOR = 1.5
"""Of what autograd keeps in a step: the gradients of single layers are there besides it."""


def memory_bytes(
    run: Run, shares: Sequence[Share], counts: Counts, numbers: Sequence[int], *, loaded: bool
) -> int:
    """Return an upper bound of the memory of the process, or of the GPU if that trains.

    To what is there already are added: what the optimiser and the EMA keep of the part that trains
    most parameters at a time; what autograd keeps of the largest step (measured, times
    `STEP_FACTOR`); features of camera frames; chunks that are pushed forward. Camera frames stay in
    their file, where the system may keep them in memory as long as nobody needs it.

    Args:
        run: of the training, networks and data included.
        shares: as they were measured.
        counts: of the data.
        numbers: of the parts.
        loaded: whether the run has all the data in memory, rather than a few.
    """
    policy = run.config.policy
    there = resident_bytes()
    if run.device.type == "cuda":
        there = torch.cuda.memory_allocated(run.device)
    chunks = 2 * counts.windows * policy.horizon * run.spec.action_dim * FLOAT
    data = 0
    if not loaded:
        numbers_per_step = run.spec.action_dim + sum(
            math.prod(shape) for shape in run.spec.obs_shapes.values() if not is_image(shape)
        )
        indices = 8 * counts.windows * (policy.horizon + policy.n_obs_steps)
        data = counts.frames * numbers_per_step * FLOAT + indices
    step = max((share.saved_bytes for share in shares), default=0)
    return round(
        there
        + COPIES * FLOAT * trained_at_once(run, numbers)
        + STEP_FACTOR * step
        + (chunks if run.model.n_blocks > 1 else 0)
        + features_bytes(run, counts)
        + data
    )


def disk_bytes(run: Run, counts: Counts, numbers: Sequence[int]) -> dict[str, int]:
    """Return what a training has on disk at the end, by what it is."""
    training, policy = run.config.training, run.config.policy
    model = sum(p.numel() for p in run.model.parameters()) * FLOAT
    state = (COPIES - 1) * trained_at_once(run, numbers) * FLOAT
    if run.model.n_blocks > 1:
        state += 2 * counts.windows * policy.horizon * run.spec.action_dim * FLOAT
    frames = sum(
        cached_bytes(counts.frames, (h, w, c), run.config.encoder.frame_size(key, (h, w, c)))
        for key, (h, w, c) in images_of(run.spec.obs_shapes).items()
    )
    needs = {
        "camera frames": frames,
        "features": features_bytes(run, counts),
        # The final one comes while the others are there, and has no state to go on from.
        "checkpoints": model + training.keep_checkpoints * (model + state),
    }
    return {name: n_bytes for name, n_bytes in needs.items() if n_bytes}


def images_of(obs_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int, int]]:
    """Return the cameras among observations."""
    images = {key: shape for key, shape in obs_shapes.items() if is_image(shape)}
    return {key: (shape[0], shape[1], shape[2]) for key, shape in images.items()}


def features_bytes(run: Run, counts: Counts) -> int:
    """Return the size of the features of all views of all camera frames; 0 without cameras."""
    encoder = run.model.encoder
    each = sum(encoder.feature_dim(key) for key in encoder.image_keys)
    return counts.frames * run.config.training.encoder_views * each * FLOAT


def trained_at_once(run: Run, numbers: Sequence[int]) -> int:
    """Return the most parameters that one of the parts trains."""
    blocks = [sum(p.numel() for p in block.parameters()) for block in run.model.blocks]
    encoder = sum(p.numel() for p in run.model.encoder.trained_parameters().values())
    return encoder + (sum(blocks) if JOINT in numbers else max(blocks))


def shortages(run_folder: Path, memory: int, disk: int, device: torch.device) -> list[str]:
    """Say where this machine has less than is needed, in sentences."""
    found = []
    there, where = total_memory(), "this machine"
    if device.type == "cuda":
        there, where = torch.cuda.get_device_properties(device).total_memory, "the GPU"
    if there and memory > there:
        found.append(
            f"the memory needed, up to {size(memory)}, is more than {where} has ({size(there)}): "
            "lower training.batch_size or training.encoder_batch_size"
        )
    free = free_disk(run_folder)
    if disk > free:
        found.append(f"the disk needed, {size(disk)}, is more than is free ({size(free)})")
    return found


def resident_bytes() -> int:
    """Return the memory of this process as it is now; where the system does not say, its most."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if os.uname().sysname == "Darwin" else most * 1024
