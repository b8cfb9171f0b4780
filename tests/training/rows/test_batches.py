from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy.training.rows.batches import BatchOrder


def _visited(n_items: int, batch_size: int, world: int, n_steps: int, seed: int = 0) -> Tensor:
    """Return what all processes together visit, in order."""
    orders = [
        BatchOrder(n_items, batch_size, seed=seed, block=1, rank=rank, world=world)
        for rank in range(world)
    ]
    return torch.cat([order.batch(step) for step in range(n_steps) for order in orders])


@settings(max_examples=100, deadline=None)
@given(
    n_items=st.integers(1, 60),
    batch_size=st.integers(1, 80),
    world=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_each_epoch_visits_every_window_once(
    n_items: int, batch_size: int, world: int, seed: int
) -> None:
    n_steps = -(-3 * n_items // (batch_size * world))  # at least three epochs
    visited = _visited(n_items, batch_size, world, n_steps, seed)
    assert visited.dtype == torch.int64
    assert len(visited) == n_steps * batch_size * world
    n_epochs = len(visited) // n_items
    for epoch in visited[: n_epochs * n_items].view(n_epochs, n_items):
        assert torch.equal(epoch.sort().values, torch.arange(n_items))
    # The last epoch is not complete yet; what has been visited of it was visited once.
    rest = visited[n_epochs * n_items :]
    assert len(rest.unique()) == len(rest)


@settings(max_examples=50, deadline=None)
@given(
    n_items=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    world=st.integers(1, 3),
    steps=st.lists(st.integers(0, 200), min_size=1, max_size=8),
)
def test_a_batch_depends_on_its_step_alone(
    n_items: int, batch_size: int, world: int, steps: list[int]
) -> None:
    def order() -> BatchOrder:
        return BatchOrder(n_items, batch_size, seed=5, block=2, rank=world - 1, world=world)

    used = order()
    for step in steps:  # forwards and backwards
        assert torch.equal(used.batch(step), order().batch(step))


@settings(max_examples=50, deadline=None)
@given(n_items=st.integers(1, 40), batch_size=st.integers(1, 20), world=st.integers(2, 4))
def test_processes_cut_up_the_order_of_one_process(
    n_items: int, batch_size: int, world: int
) -> None:
    alone = _visited(n_items, batch_size * world, 1, n_steps=4)
    assert torch.equal(alone, _visited(n_items, batch_size, world, n_steps=4))


def test_processes_see_different_windows() -> None:
    first, second = (
        BatchOrder(64, 16, seed=0, block=1, rank=rank, world=2).batch(0) for rank in range(2)
    )
    assert not set(first.tolist()) & set(second.tolist())


def test_epochs_blocks_and_seeds_have_different_orders() -> None:
    n = 50
    orders = [
        BatchOrder(n, n, seed=0, block=1).batch(0),
        BatchOrder(n, n, seed=0, block=1).batch(1),
        BatchOrder(n, n, seed=0, block=2).batch(0),
        BatchOrder(n, n, seed=1, block=1).batch(0),
        torch.arange(n),
    ]
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)
