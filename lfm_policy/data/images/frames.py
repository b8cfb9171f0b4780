"""Batches of camera frames, gathered from mapped files or from memory."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lfm_policy.data.images.cache import release

RELEASE_BYTES = 32 * 2**20
"""Mapped pages count as this process's memory until they are given back."""

AHEAD = 2
"""Batches that are gathered in advance."""


class Frames:
    """All frames of one camera, uint8 (T, height, width, channels).

    They stay in their file, or in memory, and batches are copied out of it. For a GPU that has
    room they are moved there; else batches are gathered in advance by a thread, into memory that
    the GPU can fetch by itself.
    """

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._on_device: Tensor | None = None
        self._device = torch.device("cpu")
        self._gathered_bytes = 0
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._coming: dict[bytes, Future[Tensor]] = {}

    @property
    def on_gpu(self) -> bool:
        """Whether all frames are in a GPU's memory."""
        return self._on_device is not None

    def to(self, device: torch.device) -> Frames:
        """Return the frames for batches on ``device``."""
        moved = Frames(self._images)
        moved._device = device
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self._images.nbytes < free // 2:
                moved._on_device = _upload(self._images, device)
        return moved

    def unloaded(self) -> Frames:
        """Return the same frames for the same device, whose memory they do not take."""
        left = Frames(self._images)
        left._device = self._device
        return left

    def prefetch(self, steps: Tensor) -> None:
        """Begin to gather the frames of ``steps`` (on the CPU), which `gather` will ask for."""
        if self._on_device is not None:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames")
        while len(self._coming) >= AHEAD + 1:  # of a run that was stopped, say
            self._coming.pop(next(iter(self._coming)))
        key = steps.numpy().tobytes()
        if key not in self._coming:
            self._coming[key] = self._thread.submit(self._copy, steps)

    def gather(self, steps: Tensor) -> Tensor:
        """Return the frames of ``steps``, any shape S, int64: uint8 (*S, height, width, C)."""
        if self._on_device is not None:
            flat = self._on_device.index_select(0, steps.reshape(-1).to(self._device))
            return flat.view(*steps.shape, *flat.shape[1:])
        steps = steps.cpu()
        coming = self._coming.pop(steps.numpy().tobytes(), None)
        frames = self._copy(steps) if coming is None else coming.result()
        return frames.to(self._device, non_blocking=True)

    def _copy(self, steps: Tensor) -> Tensor:
        with self._lock:
            frames = torch.from_numpy(self._images[steps.numpy()])
            self._gathered_bytes += frames.nbytes
            if self._gathered_bytes > RELEASE_BYTES:
                release(self._images)
                self._gathered_bytes = 0
        return frames.pin_memory() if self._device.type == "cuda" else frames


def _upload(images: np.ndarray, device: torch.device) -> Tensor:
    uploaded = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for begin in range(0, len(images), 1024):
        part = torch.from_numpy(np.array(images[begin : begin + 1024]))
        uploaded[begin : begin + 1024] = part.to(device)
        release(images)
    return uploaded
