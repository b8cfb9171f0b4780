from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lfm_policy.device import choose_device
from lfm_policy.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_takes_a_gpu_where_there_is_one(fake_gpus: Callable[[int], None]) -> None:
    fake_gpus(0)
    assert choose_device("auto") == CPU
    fake_gpus(1)
    assert choose_device("auto") == CUDA


def test_devices_by_name(fake_gpus: Callable[[int], None]) -> None:
    fake_gpus(2)
    assert choose_device("cpu") == CPU
    assert choose_device("cuda") == CUDA
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda", 0, "no CUDA device here; use --device cpu"),
        ("cuda:0", 0, "no CUDA device here; use --device cpu"),
        ("cuda:2", 2, "there are 2 CUDA devices here, numbered from 0"),
        ("gpu", 1, "expected auto, cpu, cuda or cuda:<number>"),
        ("", 1, "expected auto, cpu, cuda or cuda:<number>"),
        ("cuda:-1", 1, "expected auto, cpu, cuda or cuda:<number>"),
        # Torch knows these, the training does not.
        ("meta", 1, "expected auto, cpu, cuda or cuda:<number>"),
        ("mps", 1, "expected auto, cpu, cuda or cuda:<number>"),
    ],
)
def test_devices_that_do_not_exist(
    fake_gpus: Callable[[int], None], name: str, gpus: int, message: str
) -> None:
    fake_gpus(gpus)
    with pytest.raises(InputError, match=message) as caught:
        choose_device(name)
    assert f"device '{name}'" in str(caught.value)
