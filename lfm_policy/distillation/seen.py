"""What the rows of a distillation observe, encoded: by the student, or by its teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.rows.chunks import encode_all
from lfm_policy.training.rows.joined import Windows
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.rows.prefixes import TrainingPrefixes
from lfm_policy.training.seeds import TEACHER_OBS, derived_seed

ENCODING_BATCH = 1024


class Seen:
    """Encoded observations and prefixes of rows.

    Row r belongs to window r mod M: every window is there ``samples`` times.
    """

    def __init__(
        self,
        windows: Windows,
        model: PolicyModel,
        *,
        config: ExperimentConfig,
        samples: int,
        obs_noise: ObsNoise,
    ) -> None:
        """Encode what the rows observe, where that is done once.

        Args:
            windows: M windows.
            model: whose encoder it is, which is frozen, and whose prefixes.
            config: of the student.
            samples: rows for each window.
            obs_noise: displaces what the rows observe.
        """
        self.windows = windows
        self.obs_noise = obs_noise
        self._model = model
        self._seed = config.seed
        self._samples = samples
        self.n_rows = len(windows) * samples
        self._encoded = self._encode()
        self._prefixes: TrainingPrefixes | None = None
        if model.prefix is not None:
            self._prefixes = TrainingPrefixes(
                model.prefix, self.n_rows, config.seed, windows.device
            )

    def condition(self, rows: Tensor) -> Tensor | None:
        """Return the whole condition of any rows; each always has the same prefix."""
        encoded = self._encoded(rows)
        if self._prefixes is None:
            return encoded
        chunks = self.windows.gather_action(rows % len(self.windows))
        return with_prefix(encoded, self._prefixes.features(rows, chunks))

    def _observations(self, rows: Tensor) -> dict[str, Tensor]:
        """Return what rows observe; samples of one window see different views of its images."""
        n_windows, views = len(self.windows), None
        if self._samples > 1:
            views = rows // n_windows % max(self.windows.n_views, 1)
        return self.windows.gather_obs(rows % n_windows, views)

    @torch.no_grad()
    def _encode(self) -> Callable[[Tensor], Tensor | None]:
        """Return what gives the encoded observations of any rows.

        With noise, every row sees its window a little displaced, always the same way: teacher and
        students must see the same.
        """
        device = self.windows.device
        if self.obs_noise:
            displaced = self._encode_displaced()
            return lambda rows: displaced.index_select(0, rows.to(device))
        encoded = encode_all(self._model, self.windows, ENCODING_BATCH)
        if encoded is not None:
            return lambda rows: encoded.index_select(0, rows.to(device) % len(self.windows))

        @torch.no_grad()
        def encode(rows: Tensor) -> Tensor | None:
            encoding: Tensor | None = self._model.encoder(self._observations(rows))
            return encoding

        return encode

    def _encode_displaced(self) -> Tensor:
        seed = derived_seed(self._seed, TEACHER_OBS)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for begin in range(0, self.n_rows, ENCODING_BATCH):
            rows = torch.arange(begin, min(begin + ENCODING_BATCH, self.n_rows))
            obs = self._observations(rows)
            parts.append(self._model.encoder(self.obs_noise.displace(obs, generator)))
        return torch.cat(parts)
