"""Exported policies, computed by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.export.description import OUTPUT, extra_inputs
from lfm_runtime.export.file import GRAPH_FILE, read_description
from lfm_runtime.export.graph_session import GraphSession
from lfm_runtime.policy.chunk_policy import ChunkPolicy


@dataclass(frozen=True)
class OnnxChunk:
    """One sampled chunk per row of the batch.

    Attributes:
        chunk: (B, horizon, action_dim) in the robot's units, of ``spec.dtype("action")``.
        nfe: network evaluations it took.
    """

    chunk: np.ndarray
    nfe: int


class OnnxPolicy(ChunkPolicy):
    """A policy that ``lfm-policy export`` wrote, with the interface of the one it was made of.

    For one robot, call `reset` at the start of an episode and `select_action` at every step; for
    batches, call `predict_action_chunk`::

        policy = OnnxPolicy("exported", threads=1)
        policy.reset()
        action = policy.select_action({"joints": joints})  # (action_dim,)

    After `sample_seed` the noise is, to the bit, that of the exported policy with the same seed.

    Attributes:
        description: what ``policy.json`` says.
        threads: CPU threads of a call.
        nfe: network evaluations per chunk.
        digest: SHA-256 of the graph, which holds weights, normaliser and sampler.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        """Open an exported folder; the graph is run once, so that the first chunk is not slow.

        Args:
            folder: with ``policy.onnx`` and ``policy.json``.
            threads: CPU threads, at least 1.

        Raises:
            InputError: there is no export, it is damaged or exchanged, was written by a newer
                version, does not match its description, or reaches out of its folder.
        """
        description = read_description(folder)
        super().__init__(
            description.spec,
            n_obs_steps=description.n_obs_steps,
            horizon=description.horizon,
            n_action_steps=description.n_action_steps,
        )
        self.folder = Path(folder)
        self.description = description
        self.threads = threads
        self.nfe = description.sampler.fixed_nfe
        self.max_prefix = description.max_prefix
        self.digest = description.graph_sha256
        self._generator = np.random.default_rng()
        self._extra_inputs = extra_inputs(description.spec, description.max_prefix)
        self._session = GraphSession(
            self.folder / GRAPH_FILE,
            inputs=description.inputs,
            outputs={OUTPUT: (self.spec.dtype("action"), self.chunk_shape)},
            sha256=description.graph_sha256,
            threads=threads,
        )
        noise = np.zeros((1, *self.chunk_shape), dtype=np.float32)
        self._session.try_out(self._feed(self.fake_batch(), noise, None))

    @property
    def metadata(self) -> dict[str, Any]:
        """What a caller has to know: shapes, dtypes, the horizons, the sampler; JSON values."""
        description = self.description
        return {
            **super().metadata,
            "name": description.name,
            **description.sampler.to_dict(),
            "checkpoint_sha256": description.checkpoint_sha256,
            "precision": description.precision,
        }

    def sample(
        self, batch: Mapping[str, Any], *, noise: np.ndarray | None = None, prefix: Any = None
    ) -> OnnxChunk:
        """Sample whole chunks.

        Args:
            batch: observations by name, each (B, n_obs_steps, *shape), in the units of the
                demonstrations; uint8 for camera images.
            noise: (B, horizon, action_dim) standard normal; drawn when left out.
            prefix: (B, d, action_dim) in the robot's units, d at most `max_prefix`: actions that
                are executed first whatever the policy says. The chunk has exactly these from index
                ``n_obs_steps`` - 1 on and continues them.

        Raises:
            InputError: an observation or the prefix is missing, has another shape, or is not
                finite.
            FloatingPointError: the sampled action is not finite; it never reaches a robot.
        """
        obs, n_rows = self._checked_batch(batch)
        shape = (n_rows, *self.chunk_shape)
        if noise is None:
            noise = self._seeded_noise(n_rows)
        if noise is None:
            noise = self._generator.standard_normal(shape, dtype=np.float32)
        noise = np.asarray(noise, dtype=np.float32)
        if noise.shape != shape:
            raise InputError(f"noise has shape {noise.shape}, expected {shape}")
        feed = self._feed(obs, noise, prefix)
        if not n_rows:
            return OnnxChunk(np.empty(shape, dtype=self.spec.dtype("action")), self.nfe)
        if self.description.precision == "int8":
            # The scale of 8-bit numbers is chosen for a whole batch: one by one, so that a row
            # does not depend on the others.
            rows = range(n_rows)
            chunk = np.concatenate(
                [self._session.run({k: v[r : r + 1] for k, v in feed.items()}) for r in rows]
            )
        else:
            chunk = self._session.run(feed)
        if not np.isfinite(chunk).all():
            raise FloatingPointError(
                "the policy's action is not finite: its velocity overflows at this observation"
            )
        return OnnxChunk(chunk, self.nfe)

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: np.ndarray | None = None, prefix: Any = None
    ) -> np.ndarray:
        """Return the actions to execute, (B, n_action_steps, action_dim).

        Arguments, dtype and errors as `sample`.
        """
        actions: np.ndarray = self._executed(self.sample(batch, noise=noise, prefix=prefix).chunk)
        return actions

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values in training of an observation, no image.

        Args:
            key: name of the observation.

        Returns:
            Two arrays of its shape, in its unit.

        Raises:
            InputError: there is no such observation, or it is an image.
        """
        ranges = self.description.ranges
        if key not in ranges:
            known = ", ".join(ranges) or "no observation"
            raise InputError(f"the export has no range for '{key}'; it knows those of: {known}")
        return ranges[key]

    def _feed(
        self, obs: Mapping[str, np.ndarray], noise: np.ndarray, prefix: Any
    ) -> dict[str, np.ndarray]:
        feed = {**obs, self._extra_inputs[0]: noise}
        given = self._padded_prefix(prefix, len(noise))
        feed.update(zip(self._extra_inputs[1:], given, strict=False))
        return feed
