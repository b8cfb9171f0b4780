"""Features of frozen encoders, computed by one process or by several together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.config import load_config
from lfm_policy.training.rows import features as features_module
from lfm_policy.training.rows.features import with_frozen_features

N_FRAMES = 23


class Frames:
    """Windows of one camera whose frame k holds the number k."""

    n_frames = N_FRAMES
    device = torch.device("cpu")

    def frames(self, key: str, begin: int, end: int) -> Tensor:
        return torch.arange(begin, end, dtype=torch.uint8).view(-1, 1, 1, 1)

    def with_features(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


class Encoder(nn.Module):
    """Counts the frames that it sees; their features are their number and the view's."""

    image_keys = ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.precise = True

    def feature_dim(self, key: str) -> int:
        return 2

    def frame_features(self, key: str, frames: Tensor, view: int) -> Tensor:
        self.seen += len(frames)
        self.precise = not torch.is_autocast_enabled("cpu")
        number = frames.flatten().float()
        return torch.stack([number, torch.full_like(number, view + 1)], dim=1)


class Process:
    """One of two processes, in a thread: sums what both give."""

    num_processes = 2

    def __init__(self, index: int, barrier: threading.Barrier, given: list[Any]) -> None:
        self.process_index = index
        self.is_main_process = index == 0
        self._barrier, self._given = barrier, given

    def reduce(self, tensor: Tensor, kind: str) -> Tensor:
        assert kind == "sum"
        self._given[self.process_index] = tensor
        self._barrier.wait()
        total = self._given[0] + self._given[1]
        self._barrier.wait()
        return total


def expected() -> Tensor:
    number = torch.arange(N_FRAMES, dtype=torch.float32)
    return torch.stack([torch.stack([number, torch.full_like(number, v)], 1) for v in (1, 2)])


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "FRAMES_AT_ONCE", 4)


def compute(
    encoder: Encoder, folder: Path, accelerator: Any = None, mixed_precision: str = "no"
) -> Tensor:
    changes = ["training.encoder_views=2", f"training.mixed_precision={mixed_precision}"]
    config = load_config("pusht/image_lfm", [*changes, "dataset.path=x"])
    found: Any = with_frozen_features(
        Frames(),  # type: ignore[arg-type]
        encoder,  # type: ignore[arg-type]
        config,
        "data",
        folder,
        accelerator=accelerator,
    )
    features: Tensor = found["image"]
    return features


def test_they_are_computed_once_and_kept(tmp_path: Path) -> None:
    encoder = Encoder()
    assert torch.equal(compute(encoder, tmp_path), expected())
    assert encoder.seen == 2 * N_FRAMES
    assert torch.equal(compute(encoder, tmp_path), expected())
    assert encoder.seen == 2 * N_FRAMES


def test_they_are_as_precise_as_training_was(tmp_path: Path) -> None:
    encoder = Encoder()
    for count, (precision, precise) in enumerate(
        [("no", True), ("bf16", False), ("fp16", True)], start=1
    ):
        compute(encoder, tmp_path, mixed_precision=precision)
        assert encoder.precise is precise  # there is no fp16 on a CPU
        assert len(list(tmp_path.iterdir())) == count


def test_processes_share_the_work(tmp_path: Path) -> None:
    barrier = threading.Barrier(2)
    given: list[Any] = [None, None]
    encoders = [Encoder(), Encoder()]

    def process(index: int) -> Tensor:
        return compute(encoders[index], tmp_path, Process(index, barrier, given))

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(process, range(2)))
    for result in results:
        assert torch.equal(result, expected())
    assert [encoder.seen for encoder in encoders] == [24, 22]
    assert len(list(tmp_path.iterdir())) == 1
    with ThreadPoolExecutor(2) as pool:
        assert all(torch.equal(found, expected()) for found in pool.map(process, range(2)))
    assert [encoder.seen for encoder in encoders] == [24, 22]


def test_a_file_that_only_one_process_sees_is_not_read(tmp_path: Path) -> None:
    """The first one may have written it a moment ago."""
    compute(Encoder(), tmp_path / "0")
    barrier = threading.Barrier(2)
    given: list[Any] = [None, None]
    encoders = [Encoder(), Encoder()]

    def process(index: int) -> Tensor:
        return compute(encoders[index], tmp_path / str(index), Process(index, barrier, given))

    with ThreadPoolExecutor(2) as pool:
        assert all(torch.equal(found, expected()) for found in pool.map(process, range(2)))
    assert [encoder.seen for encoder in encoders] == [24, 22]
