"""Tensor files: written whole, read piece by piece, and never trusted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lfm_policy.errors import InputError
from lfm_policy.policy import tensors as module
from lfm_policy.policy.tensors import fill_tensors, read_tensors, sha256_of, write_tensors


def example() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {"scalar": (), "vector": (7,), "matrix": (5, 3), "cube": (2, 3, 4), "empty": (0, 3)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("bytes_at_once", [1, 30, 10**6])
def test_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int) -> None:
    monkeypatch.setattr(module, "_BYTES_AT_ONCE", bytes_at_once)
    path, tensors = tmp_path / "file.safetensors", example()
    digest = write_tensors(path, tensors)
    assert digest == sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mode & 0o044  # readable by others, like the user's other files
    targets = {name: torch.full(value.shape, -1.0) for name, value in tensors.items()}
    fill_tensors(path, targets)
    read = read_tensors(path)
    for name, value in tensors.items():
        assert torch.equal(targets[name], value) and torch.equal(read[name], value)


def test_tensors_need_not_be_contiguous(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "file", {"turned": matrix.T})
    assert torch.equal(read_tensors(tmp_path / "file")["turned"], matrix.T)


def test_other_dtypes_are_read_but_not_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"steps": torch.arange(3), "half": torch.ones(2, dtype=torch.bfloat16)})
    assert read_tensors(path)["steps"].dtype == torch.int64
    with pytest.raises(InputError, match="'half' has dtype BF16, expected F32"):
        fill_tensors(path, {"half": torch.zeros(2), "steps": torch.zeros(3)})


def test_nothing_is_filled_in_when_something_differs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, path)
    targets = {"a": torch.zeros(2), "b": torch.zeros(4)}
    with pytest.raises(InputError, match=r"'b' has shape \(3,\), the configuration expects \(4,\)"):
        fill_tensors(path, targets)
    assert not targets["a"].any()


@pytest.mark.parametrize("content", [b"", b"1234567", bytes(8), b"\xff" * 100])
def test_not_a_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (read_tensors, lambda path: fill_tensors(path, {})):
        with pytest.raises(InputError, match="file: not a readable safetensors file"):
            read(path)
