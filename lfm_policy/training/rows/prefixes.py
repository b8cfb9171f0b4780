"""How much of its executable actions each training chunk shows to the networks beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.policy.prefix import PrefixCondition
from lfm_policy.training.seeds import PREFIX_LENGTHS, derived_seed


def draw_lengths(
    max_prefix: int,
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return random lengths: 0 for half of them, 1 to ``max_prefix`` for the others.

    Half have none because the first chunk never has any, and because chunks without a prefix are
    the harder ones: what is given need not be found.
    """
    drawn = torch.randint(2 * max_prefix, shape, generator=generator, device=device)
    return (drawn - max_prefix + 1).clamp(min=0)


class TrainingPrefixes:
    """A length for every row, always the same, and random ones where rows may change.

    A row that is pushed through a block belongs to the prefix that the block saw, so from then on
    it has to keep it.
    """

    def __init__(
        self, condition: PrefixCondition, n_rows: int, seed: int, device: torch.device | None = None
    ) -> None:
        """Draw the lengths of ``n_rows`` rows, which stay where the rows are, on ``device``."""
        self._condition = condition
        generator = torch.Generator().manual_seed(derived_seed(seed, PREFIX_LENGTHS))
        lengths = draw_lengths(condition.max_prefix, (n_rows,), generator=generator)
        self._lengths = lengths.to(device)

    def features(self, idx: Tensor, chunks: Tensor, *, random: bool = False) -> Tensor:
        """Return what is added to the condition of rows ``idx``, (B, size).

        Args:
            idx: (B,) row numbers.
            chunks: (B, horizon, action_dim), the demonstrated, normalised chunks of these rows.
            random: draw the lengths from torch's global generator.
        """
        if random:
            lengths = draw_lengths(
                self._condition.max_prefix, tuple(idx.shape), device=chunks.device
            )
        else:
            lengths = self._lengths.index_select(0, idx.to(self._lengths.device))
        return self._condition.of_chunks(chunks, lengths)
