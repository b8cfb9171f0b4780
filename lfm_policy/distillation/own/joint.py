"""The encoder of a student that sees something else: it learns with all student blocks at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lfm_policy.config.distillation import DistillConfig
from lfm_policy.config.training import TrainingConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.methods.regression import RegressionLoss
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.auxiliary.loss import EncodingLoss
from lfm_policy.training.auxiliary.targets import Targets
from lfm_policy.training.rows.chunks import Condition
from lfm_policy.training.rows.joined import Windows
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.rows.prefixes import TrainingPrefixes
from lfm_policy.training.run import Run
from lfm_policy.training.trainer import Rows


@dataclass(frozen=True)
class Ways(Rows):
    """The teacher's ways, and what the student sees at their moments.

    The teacher was asked once about each row; what the student sees is gathered in every batch,
    with other noise on its numbers, and its encoder crops images anew each time.

    Attributes:
        noise: (R, horizon, action_dim), where the ways begin.
        ends: (R, N', horizon, action_dim), where the teacher is at the data side of each group.
        windows: M windows as the student sees them; row r belongs to window r mod M.
        obs_noise: displaces what the student observes in training.
        prefixes: what is known of a chunk beforehand, of every row.
        targets: what the encoder learns to tell besides, of windows of one dataset.
        draws: ways of a window in a row of a batch, on one look at its images; a divisor of R / M.
    """

    noise: Tensor
    ends: Tensor
    windows: Windows
    obs_noise: ObsNoise
    prefixes: TrainingPrefixes | None
    targets: Targets | None = None
    draws: int = 1

    @property
    def same_work(self) -> bool:  # type: ignore[override]
        """Whether nothing but tensors on the device is asked: no frames in files."""
        return self.windows.in_memory

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.noise.device

    def __len__(self) -> int:
        """Return the number of rows of batches."""
        return len(self.noise) // self.draws

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return noise, observations by name, ends, and what is added to the encoding.

        Noise, ends and what is added have ``draws`` rows for each of the observations, one after
        the other. Where the encoder has targets, these come last.
        """
        idx, n_windows = idx.to(self.device), len(self.windows)
        window = idx % n_windows
        samples = idx[:, None] // n_windows * self.draws + torch.arange(
            self.draws, device=self.device
        )
        rows = (window[:, None] + n_windows * samples).flatten()
        obs, prefix = self.windows.gather_obs(window), None
        if training:
            obs = self.obs_noise.displace(obs)
        if self.prefixes is not None:
            chunks = self.windows.gather_action(window).repeat_interleave(self.draws, dim=0)
            prefix = self.prefixes.features(rows, chunks)
        ends = self.ends.index_select(0, rows)
        batch = self.noise.index_select(0, rows), obs, ends, prefix
        if self.targets is None or not isinstance(self.windows, WindowDataset):
            return batch
        return *batch, self.targets.of(self.windows, window)

    def prefetch(self, idx: Tensor) -> None:
        """Begin to gather the images of rows ``idx``."""
        self.windows.prefetch(idx % len(self.windows))


def draws_of(options: TrainingConfig, samples: int) -> int:
    """Return how many of a window's samples share a look: as many as asked, in equal groups."""
    return math.gcd(options.encoder_draws, samples)


def made_up_ways(run: Run) -> Ways:
    """Return ways of a run's windows that no teacher has gone, to see how long a step takes."""
    windows, options = run.train_set, run.options
    draws = draws_of(options, run.config.distill.samples)
    noise = torch.randn(draws * len(windows), *run.model.chunk_shape, device=run.device)
    ends = torch.stack([noise] * run.model.n_blocks, dim=1)
    prefixes = None
    if run.model.prefix is not None:
        prefixes = TrainingPrefixes(run.model.prefix, len(noise), run.config.seed, run.device)
    return Ways(noise, ends, windows, ObsNoise(options, windows), prefixes, draws=draws)


class JointRegression(EncodingLoss):
    """The mean over all student blocks of the error of their steps, on one encoding of each batch.

    Each block's step is to end where the teacher's way from the same noise is by then. It starts
    from where the block before it leads (``distill.inputs``: corrected), without a gradient through
    that, or from the teacher's own state.
    """

    def __init__(
        self,
        model: PolicyModel,
        groups: Sequence[TeacherGroup],
        options: DistillConfig,
        weights: Tensor | None = None,
    ) -> None:
        """Build the loss; see `DistillLoss` for ``options`` and ``weights``."""
        super().__init__()
        self.encoder = model.encoder
        self._encode = model.encoder
        self.blocks = model.blocks
        self._steps = [
            RegressionLoss(network, group, options, weights)
            for network, group in zip(model.blocks, groups, strict=True)
        ]
        self._corrected = options.inputs == "corrected"
        self.same_work = model.encoder.same_work

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the encoder and of the blocks."""
        named = {f"encoder.{k}": p for k, p in self.encoder.trained_parameters().items()}
        return named | {f"blocks.{name}": p for name, p in self.blocks.named_parameters()}

    def forward(
        self, noise: Tensor, condition: Condition, ends: Tensor, prefix: Tensor | None
    ) -> Tensor:
        """Return the loss of a batch, a scalar; there may be several noises for each condition."""
        cond = self.encode(condition)
        if cond is not None:
            cond = cond.repeat_interleave(len(noise) // len(cond), dim=0)
        cond = with_prefix(cond, prefix)
        x, losses = noise, []
        for n in range(len(self._steps), 0, -1):
            step, end = self._steps[n - 1], ends[:, n - 1]
            reached = step.one_step(x, cond)
            losses.append(step.distance(reached - end))
            x = reached.detach().to(end) if self._corrected else end
        return torch.stack(losses).mean()
