"""Reading and writing safetensors files with every claim checked before memory is asked for."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_runtime.disk.files import atomic_file
from lfm_runtime.disk.full import reserve
from lfm_runtime.disk.input_files import require_file, sha256_of

MAXIMUM_HEADER_BYTES = 16_000_000
MAXIMUM_NAME = 500
_BYTES_AT_ONCE = 8_000_000
_MOST_BEYOND, _MOST_PER_NAME = 1 << 18, 1 << 10
"""Bytes that a file may need besides its numbers."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, atomically; returns the SHA-256 of the file.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_file(path) as temporary:
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        try:
            save_file(contiguous, str(temporary))
        except SafetensorError as error:
            numbers = sum(value.nbytes for value in contiguous.values())
            size = numbers + _MOST_BEYOND + _MOST_PER_NAME * len(contiguous)
            raise _not_written(temporary, size, error) from None
        return sha256_of(temporary)


def _not_written(path: Path, size: int, error: Exception) -> OSError:
    """Return why the system does not write ``size`` bytes, which safetensors says in words only."""
    try:
        with path.open("wb") as file:
            reserve(file.fileno(), size)
    except OSError as refused:
        return OSError(refused.errno, refused.strerror, str(path))
    return OSError(errno.EIO, str(error)[:300], str(path))


@contextmanager
def _opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """Open a safetensors file; one that safetensors does not like is an InputError."""
    require_file(path)
    try:
        with safe_open(str(path), framework=framework) as file:
            yield file
    except (SafetensorError, OSError, KeyError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {str(error)[:300]}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, whatever it holds.

    Raises:
        InputError: not a safetensors file, or truncated.
    """
    with _opened(path, "pt") as file:
        names = sorted(file.keys())
        for name in names:
            if len(name) > MAXIMUM_NAME:
                raise InputError(f"{path}: a tensor has a name of {len(name):,} characters")
        return {name: file.get_tensor(name) for name in names}


def check_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a safetensors file holds exactly these tensors; reads its header only.

    They may be float32 or float16.

    Raises:
        InputError: not a safetensors file, truncated, or other tensors; the message names the
            first one that differs.
    """
    with _opened(path) as file:
        _check_header(path, file, shapes)


def fill_tensors(path: Path, targets: Mapping[str, Tensor]) -> None:
    """Read a safetensors file into float32 tensors that are there already.

    They are checked as by `check_tensors` before anything is read, float16 is widened, and no
    second copy of the numbers is made.

    Raises:
        InputError: as `check_tensors`, or numbers that are not finite.
    """
    # As numpy: in torch's framework safetensors maps the file a second time, privately.
    with _opened(path) as file:
        _check_header(path, file, {name: tuple(t.shape) for name, t in targets.items()})
        for name, target in targets.items():
            _fill(path, file, name, target)


def _check_header(path: Path, file: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    found, expected = set(file.keys()), set(shapes)
    if missing := sorted(expected - found):
        raise InputError(
            f"{path}: tensor '{missing[0]}' is missing ({len(missing)} of {len(expected)} are)"
        )
    if extra := sorted(found - expected):
        raise InputError(
            f"{path}: unexpected tensor {extra[0][:200]!a} ({len(extra)} more than expected)"
        )
    for name, shape in shapes.items():
        part = file.get_slice(name)
        found_shape, found_dtype = tuple(part.get_shape()), part.get_dtype()
        if found_shape != tuple(shape):
            raise InputError(
                f"{path}: tensor '{name}' has shape {found_shape}, the configuration expects "
                f"{tuple(shape)}"
            )
        if found_dtype not in ("F32", "F16"):
            raise InputError(
                f"{path}: tensor '{name}' has dtype {found_dtype}, expected F32 (float32) or F16 "
                "(float16)"
            )


def _fill(path: Path, file: Any, name: str, target: Tensor) -> None:
    if target.ndim == 0:
        _copy(path, name, target, file.get_tensor(name))
        return
    part = file.get_slice(name)
    # In pieces, so that the numbers are in memory once and not twice.
    rows = max(1, _BYTES_AT_ONCE // (4 * math.prod(target.shape[1:]) or 1))
    for begin in range(0, len(target), rows):
        end = min(begin + rows, len(target))
        _copy(path, name, target[begin:end], part[begin:end])


def _copy(path: Path, name: str, target: Tensor, numbers: np.ndarray) -> None:
    values = torch.from_numpy(numbers)
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{path}: tensor '{name}' holds NaN or infinity: it is damaged")
    target.copy_(values)
