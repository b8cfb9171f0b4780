from __future__ import annotations

import math
import time

import pytest
import torch

from lfm_policy.training.run_folder.meters import Clock, RunningMean


def test_a_clock_goes_on_from_earlier_parts_of_a_run() -> None:
    clock = Clock(100.0)
    first = clock.seconds()
    time.sleep(0.01)
    assert 100 <= first < clock.seconds() < 160


def test_the_mean_is_since_the_last_look() -> None:
    mean = RunningMean(torch.device("cpu"))
    for loss in (1.0, 2.0, 6.0):
        mean.add(torch.tensor(loss))
    assert mean.take() == pytest.approx(3.0)
    mean.add(torch.tensor(5.0))
    assert mean.take() == pytest.approx(5.0)
    assert mean.take() == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_loss_is_noticed_among_good_ones(bad: float) -> None:
    mean = RunningMean(torch.device("cpu"))
    mean.add(torch.tensor(1.0))
    assert mean.finite()
    mean.add(torch.tensor(bad))
    mean.add(torch.tensor(1.0))
    assert not mean.finite()
