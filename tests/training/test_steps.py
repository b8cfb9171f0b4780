"""The learning rate is that of diffusers' schedules, step for step."""

from __future__ import annotations

import pytest
import torch

from lfm_policy.training.steps import cosine_share, round_starts


@pytest.mark.parametrize(("warmup", "n_steps"), [(0, 7), (5, 30), (30, 30), (1, 2)])
@pytest.mark.parametrize("n_rounds", [1, 2, 3])
def test_it_is_that_of_diffusers(warmup: int, n_steps: int, n_rounds: int) -> None:
    reference = pytest.importorskip("diffusers.optimization")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if n_rounds == 1:
        schedule = reference.get_cosine_schedule_with_warmup(optimizer, warmup, n_steps)
    else:
        schedule = reference.get_cosine_with_hard_restarts_schedule_with_warmup(
            optimizer, warmup, n_steps, num_cycles=n_rounds
        )
    for step in range(n_steps + 1):
        found = cosine_share(step, warmup=warmup, n_steps=n_steps, n_rounds=n_rounds)
        assert found == schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()


def test_rounds_start_where_the_rate_does() -> None:
    starts = round_starts(100, 10, 3)
    assert starts == [0, 40, 70]
    for start in starts[1:]:
        assert cosine_share(start, warmup=10, n_steps=100, n_rounds=3) == pytest.approx(1, abs=1e-6)
        assert cosine_share(start - 1, warmup=10, n_steps=100, n_rounds=3) < 0.01
