"""Training of a chain on plain tensors: block after block, with a push-forward between them.

A density estimator::

    schedule = OUSchedule((0.1, 0.3))
    chain = FlowChain([FlowBlock(make_network(), schedule.step(n)) for n in (1, 2, 3)])
    fit(chain, x, steps=2000, push_solver=SolverSpec("heun", 8))
    log_prob(chain, x_test, solver=SolverSpec("dopri5")).log_prob.mean()
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm.auto import tqdm

from lfm_policy.flow.chain import FlowChain
from lfm_policy.flow.ema import EMA, averaged
from lfm_policy.flow.solvers import SolverSpec


@dataclass(frozen=True)
class FitResult:
    """What became of a training.

    Attributes:
        losses: the loss of every step of every block, (N, steps), index 0 = block 1.
        push_nfe: evaluations of the push-forward through each block but the last.
    """

    losses: Tensor
    push_nfe: tuple[int, ...]


def fit(
    chain: FlowChain,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    steps: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    ema_decay: float = 0.999,
    ema_power: float = 0.75,
    push_solver: SolverSpec | None = None,
    push_batch_size: int = 4096,
    warm_start: bool = True,
    seed: int = 0,
    quiet: bool = True,
) -> FitResult:
    """Train every block, 1 to N (arXiv:2410.02548, Algorithm 1); its networks hold the EMA then.

    Block n + 1 learns from what block n makes of its data. Learning rates fall to 0 along half a
    cosine. Networks are left in evaluation mode.

    Args:
        chain: its networks are modules, on the device and in the dtype of ``x``.
        x: data, (M, *chunk_shape).
        cond: what they are conditioned on, (M, cond_dim), or None.
        steps: gradient steps of each block.
        batch_size: rows per step, drawn with replacement.
        learning_rate: of AdamW at the start.
        weight_decay: of AdamW.
        ema_decay: largest decay of the moving average of the weights, see `EMA`.
        ema_power: how fast it grows to that over the first steps.
        push_solver: of the push-forward; 8 steps of Heun's method when None.
        push_batch_size: rows pushed at a time.
        warm_start: begin a block with the weights of the one before, where they fit.
        seed: of all random numbers.
        quiet: no progress bar.

    Raises:
        ValueError: the data are not finite or empty, or ``cond`` has another number of rows.
        FloatingPointError: a loss is not finite.
    """
    _check_data(x, cond)
    push_solver = push_solver or SolverSpec("heun", 8)
    generator = torch.Generator(device=x.device).manual_seed(seed)
    losses = torch.empty(chain.n_blocks, steps)
    push_nfe: list[int] = []
    for n in range(1, chain.n_blocks + 1):
        block = chain.block(n)
        if warm_start and n > 1:
            copy_fitting_weights(block.network, chain.block(n - 1).network)
        block.train()
        ema = EMA(list(block.parameters()), decay=ema_decay, power=ema_power)
        average = None
        if block.method.asks_average and isinstance(block.network, nn.Module):
            names = [name for name, _ in block.network.named_parameters()]
            average = averaged(block.network, dict(zip(names, ema.weights, strict=True)))
        optimizer = torch.optim.AdamW(
            block.parameters(), lr=learning_rate, weight_decay=weight_decay
        )
        schedule = CosineAnnealingLR(optimizer, steps)
        for step in tqdm(range(steps), desc=f"block {n}/{chain.n_blocks}", disable=quiet):
            rows = torch.randint(len(x), (batch_size,), generator=generator, device=x.device)
            other = None
            if block.needs_other:
                drawn = torch.randint(len(x), (batch_size,), generator=generator, device=x.device)
                other = x[drawn]
            loss = block.loss(
                x[rows],
                None if cond is None else cond[rows],
                x_other=other,
                generator=generator,
                average=average,
            )
            if not math.isfinite(float(loss.detach())):
                raise FloatingPointError(
                    f"the loss of block {n} is not finite at step {step}: lower learning_rate, or "
                    "normalise the data"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            ema.update()
            losses[n - 1, step] = loss.detach()
        ema.copy_to_parameters()
        block.eval()
        if n < chain.n_blocks:
            with torch.no_grad():
                pushed = chain.push_forward(
                    x, cond, solver=push_solver, first=n, last=n, batch_size=push_batch_size
                )
            x = pushed.x
            push_nfe.append(pushed.nfe)
    return FitResult(losses, tuple(push_nfe))


def _check_data(x: Tensor, cond: Tensor | None) -> None:
    if not len(x) or not bool(torch.isfinite(x).all()):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one row, all finite")
    if cond is not None and len(cond) != len(x):
        raise ValueError(f"cond has {len(cond)} rows, x has {len(x)}")


def copy_fitting_weights(network: object, before: object) -> None:
    """Give ``network`` the weights of ``before``, and leave it alone if it has others."""
    if isinstance(network, nn.Module) and isinstance(before, nn.Module):
        load_fitting_weights(network, before.state_dict())


def load_fitting_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give ``network`` weights, and leave it alone if it has others."""
    own = network.state_dict()
    if {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in own.items()}:
        network.load_state_dict(weights)
