"""A policy under check: many chunks of many instants, every camera frame encoded once."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.checking.demonstrations import Instants
from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.policy import Policy
from lfm_policy.policy.pipeline import Pipeline
from lfm_runtime.export.onnx_policy import OnnxPolicy
from lfm_runtime.policy.chunk_policy import padded_prefix
from lfm_runtime.policy.observations import checked_batch
from lfm_runtime.policy.spec import is_image

FRAMES_AT_ONCE = 32
"""Instants whose observations are read and encoded together: of cameras, a few megabytes."""

CHUNKS_AT_ONCE = 1024


class Subject(ABC):
    """A policy and the instants at which it is asked.

    Attributes:
        instants: M of them.
        unclipped: whether `chunks` gives what the networks say, before actions are clipped.
        limits: smallest and largest action that is executed, (action_dim,) each; None where
            `chunks` are not clipped any more.
        progress: called with a number of chunks once these are there.
    """

    unclipped: bool
    limits: tuple[np.ndarray, np.ndarray] | None = None

    def __init__(self, instants: Instants) -> None:
        self.instants = instants
        self.progress: Callable[[int], Any] = lambda count: None

    def executed(
        self, noise: np.ndarray, swapped: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Return chunks as a robot would get them; arguments as `chunks`."""
        return self.clipped(self.chunks(noise, swapped))

    def clipped(self, chunks: np.ndarray) -> np.ndarray:
        """Return what is executed of (..., action_dim) chunks."""
        return chunks if self.limits is None else np.clip(chunks, *self.limits)

    @abstractmethod
    def chunks(
        self, noise: np.ndarray, swapped: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Return a chunk of every instant, (M, horizon, action_dim) float64, in the robot's units.

        Args:
            noise: (M, horizon, action_dim) standard normal.
            swapped: key -> (M,) instants whose observation of that key is shown instead.

        Raises:
            FloatingPointError: an action is not finite.
        """


class CheckpointSubject(Subject):
    """A policy of a checkpoint; what it sees is encoded once and kept."""

    unclipped = True

    def __init__(self, policy: Policy, instants: Instants, *, quiet: bool = True) -> None:
        """Encode what the policy sees at the instants.

        Raises:
            InputError: an observation is not what the policy takes.
        """
        super().__init__(instants)
        self.policy = policy
        options = dataclasses.replace(policy.config.policy, clip_actions=False)
        config = dataclasses.replace(policy.config, policy=options)
        self._pipeline = Pipeline(
            config, policy.spec, policy.model, policy.normalizer, device=policy.device
        )
        self._pipeline.sample_with(policy.pipeline.options, policy.pipeline.solvers)
        if policy.config.policy.clip_actions:
            self.limits = policy.training_range(ACTION_KEY)
        self.features = self._encoded(quiet)

    def chunks(
        self, noise: np.ndarray, swapped: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Return a chunk of every instant; see `Subject.chunks`."""
        parts = []
        with torch.inference_mode():
            for rows in batches(len(self.instants), CHUNKS_AT_ONCE):
                given = torch.from_numpy(noise[rows]).to(self.policy.device)
                obs, prefix = self.seen(rows, swapped), self._no_prefix(len(rows))
                parts.append(self._pipeline.sample(obs, given, prefix).chunk.cpu().numpy())
                self.progress(len(rows))
        return _finite(np.concatenate(parts))

    def seen(
        self, rows: np.ndarray, swapped: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, Tensor]:
        """Return what the encoder fuses, (B, n_obs_steps, ...) by key, on the policy's device."""
        swapped = swapped or {}
        return {
            key: value[torch.from_numpy(swapped[key][rows] if key in swapped else rows)].to(
                self.policy.device
            )
            for key, value in self.features.items()
        }

    def condition(self, rows: np.ndarray) -> Tensor | None:
        """Return the condition of the networks at some instants, (B, cond_dim), no prefix given."""
        return self._pipeline.condition(self.seen(rows), self._no_prefix(len(rows)))

    def _no_prefix(self, n_rows: int) -> tuple[Tensor, Tensor] | None:
        if not self.policy.max_prefix:
            return None
        actions, mask = padded_prefix(
            None, n_rows=n_rows, max_prefix=self.policy.max_prefix, spec=self.policy.spec
        )
        device = self.policy.device
        return torch.from_numpy(actions).to(device), torch.from_numpy(mask).to(device)

    def _encoded(self, quiet: bool) -> dict[str, Tensor]:
        """Return (M, n_obs_steps, ...) by key, normalised, features in place of images."""
        policy, keys = self.policy, tuple(self.policy.spec.obs_shapes)
        shapes = policy.spec.obs_shapes.items()
        numbers = {key: shape for key, shape in shapes if not is_image(shape)}
        low_dim = dataclasses.replace(policy.spec, obs_shapes=numbers)
        parts: dict[str, list[Tensor]] = {key: [] for key in keys}
        rows_of = list(batches(len(self.instants), FRAMES_AT_ONCE))
        if not keys:
            return {}
        with torch.inference_mode():
            for rows in tqdm(rows_of, desc="observations", unit="batch", disable=quiet, delay=1):
                recorded = self.instants.observations(rows, keys)
                # Frames may have been made smaller already, as the encoder would.
                obs = recorded | checked_batch(recorded, low_dim, n_obs_steps=policy.n_obs_steps)
                tensors = {k: torch.from_numpy(v).to(policy.device) for k, v in obs.items()}
                encoded = policy.model.encoder.encode_images(self._pipeline.normalized(tensors))
                for key in keys:
                    parts[key].append(encoded[key].cpu())
        return {key: torch.cat(part) for key, part in parts.items()}


class ExportSubject(Subject):
    """An exported policy; what it sees is read anew each time, because the graph takes images."""

    unclipped = False

    def __init__(self, policy: OnnxPolicy, instants: Instants) -> None:
        super().__init__(instants)
        self.policy = policy
        self.unclipped = not policy.description.clips_actions

    def chunks(
        self, noise: np.ndarray, swapped: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Return a chunk of every instant; see `Subject.chunks`."""
        swapped, keys = swapped or {}, tuple(self.policy.spec.obs_shapes)
        parts = []
        for rows in batches(len(self.instants), FRAMES_AT_ONCE if keys else 1):
            obs: dict[str, Any] = {}
            for key in keys:
                shown = swapped[key][rows] if key in swapped else rows
                obs |= self.instants.observations(shown, (key,))
            parts.append(self.policy.sample(obs, noise=noise[rows]).chunk)
            self.progress(len(rows))
        return _finite(np.concatenate(parts))


def batches(n_rows: int, size: int) -> Iterator[np.ndarray]:
    """Yield the numbers of rows 0 to ``n_rows`` - 1, ``size`` at a time, int64."""
    for begin in range(0, n_rows, size):
        yield np.arange(begin, min(begin + size, n_rows))


def _finite(chunks: np.ndarray) -> np.ndarray:
    if not np.isfinite(chunks).all():
        raise FloatingPointError("the policy's action is not finite: its velocity overflows")
    return chunks.astype(np.float64)
