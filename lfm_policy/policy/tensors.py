"""Reading and writing safetensors files with every claim checked before memory is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.files import atomic_file

_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I32": torch.int32,
    "I64": torch.int64,
}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text.

    Raises:
        InputError: the file is missing, is not a regular file or cannot be read.
    """
    require_file(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return digest.hexdigest()


def require_file(path: Path) -> None:
    """Check that a path is a regular file (not a folder, a pipe or a device).

    Raises:
        InputError: it is not.
    """
    try:
        regular = path.is_file()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not regular:
        found = "something that is not a regular file" if path.exists() else "nothing"
        raise InputError(f"{path}: expected a file, found {found}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, atomically; returns the SHA-256 of the file."""
    with atomic_file(path) as temporary:
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(contiguous, str(temporary))
        return sha256_of(temporary)


def read_tensors(
    path: Path, expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]] | None = None
) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        expected: shape and dtype of every tensor that must be there, and no other. Checked
            against the header, before anything is read. None accepts any names.

    Raises:
        InputError: not a safetensors file, truncated, or other tensors than expected; the message
            names the first tensor that differs.
    """
    require_file(path)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = set(file.keys())
            if expected is not None:
                _check_names(path, names, set(expected))
                for name, (shape, dtype) in expected.items():
                    part = file.get_slice(name)
                    _check_tensor(path, name, part.get_shape(), part.get_dtype(), shape, dtype)
            return {name: file.get_tensor(name) for name in sorted(names)}
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable safetensors file: {error}") from None


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    if missing := sorted(expected - found):
        raise InputError(
            f"{path}: tensor '{missing[0]}' is missing ({len(missing)} of {len(expected)} are)"
        )
    if extra := sorted(found - expected):
        raise InputError(
            f"{path}: unexpected tensor '{extra[0][:200]}' ({len(extra)} more than expected)"
        )


def _check_tensor(
    path: Path,
    name: str,
    found_shape: list[int],
    found_dtype: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    if tuple(found_shape) != tuple(shape):
        raise InputError(
            f"{path}: tensor '{name}' has shape {tuple(found_shape)}, the configuration expects "
            f"{tuple(shape)}"
        )
    if _DTYPES.get(found_dtype) != dtype:
        raise InputError(f"{path}: tensor '{name}' has dtype {found_dtype}, expected {dtype}")
