"""A trained policy: observations in, action chunks in the robot's units out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.policy.sampler import plan_sampler
from lfm_runtime.policy.chunk_policy import ChunkPolicy, Frame
from lfm_runtime.policy.observations import (
    check_history_shape,
    float_array,
    image_array,
    is_image,
    not_finite,
    require_observation,
)
from lfm_runtime.policy.prefix import padded_prefix
from lfm_runtime.policy.spec import DataSpec


@dataclass(frozen=True)
class ChunkResult:
    """One sampled chunk per row of the batch.

    Attributes:
        chunk: (B, horizon, action_dim) in the robot's units, of ``spec.dtype("action")``.
        nfe: network evaluations it took.
    """

    chunk: Tensor
    nfe: int


class Policy(ChunkPolicy):
    """Samples action chunks and, step by step, executes them.

    Built by `load_policy`. For one robot, call `reset` at the start of an episode and
    `select_action` at every step; for batches, call `predict_action_chunk`.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        spec: DataSpec,
        model: PolicyModel,
        normalizer: Normalizer,
        *,
        device: str | torch.device = "cpu",
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            spec,
            n_obs_steps=config.policy.n_obs_steps,
            horizon=config.policy.horizon,
            n_action_steps=config.policy.n_action_steps,
        )
        self.config = config
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.normalizer = normalizer.to(self.device)
        self.info = dict(info or {})
        self._chain = self.model.chain()
        self._solvers = plan_sampler(config.sampler, self.model.n_blocks)
        self._noise_scale = config.sampler.noise_scale
        self._dtypes = {
            key: getattr(torch, spec.dtype(key)) for key in (*spec.obs_shapes, "action")
        }

    # -- settings -----------------------------------------------------------------------------

    @property
    def nfe(self) -> int | None:
        """Network evaluations per chunk; None for an adaptive solver, which decides itself."""
        counts = [solver.nfe for solver in self._solvers]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def solvers(self) -> tuple[SolverSpec, ...]:
        """Solver of each block, index 0 = block 1 (data side)."""
        return tuple(self._solvers)

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise that sampling starts from."""
        return self._noise_scale

    @property
    def max_prefix(self) -> int:
        """Most committed actions that a chunk can be made to continue."""
        return self.config.policy.max_prefix

    @property
    def digest(self) -> str:
        """SHA-256 of the checkpoint, which is that of its weights, normaliser and options."""
        return str(self.info.get("sha256", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        """What a caller has to know: shapes, dtypes, the horizons, the sampler; JSON values."""
        return {
            **super().metadata,
            "name": self.config.name,
            "nfe": self.nfe,
            "solver": self._solvers[0].name,
            "noise_scale": self._noise_scale,
            "checkpoint_sha256": self.info.get("sha256", ""),
        }

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of the encoder, of each block and in total."""
        return self.model.parameter_counts()

    def set_sampler(
        self,
        *,
        solver: str | None = None,
        nfe: int | None = None,
        noise_scale: float | None = None,
    ) -> None:
        """Choose another sampler for all later chunks; what is left out is as configured.

        Args:
            solver: name of the ODE solver.
            nfe: network evaluations per chunk, over all blocks.
            noise_scale: standard deviation of the noise that sampling starts from.

        Raises:
            InputError: the number of evaluations does not fit the blocks and the solver, or the
                scale of the noise is negative or not finite.
        """
        solvers = plan_sampler(self.config.sampler, self.model.n_blocks, solver=solver, nfe=nfe)
        scale = self.config.sampler.noise_scale if noise_scale is None else float(noise_scale)
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"noise_scale is {scale}, expected a finite number, at least 0")
        self._solvers, self._noise_scale = solvers, scale

    # -- batches ------------------------------------------------------------------------------

    def sample(
        self, batch: Mapping[str, Any], *, noise: Tensor | None = None, prefix: Any = None
    ) -> ChunkResult:
        """Sample whole chunks.

        Args:
            batch: observations by name, each (B, n_obs_steps, *shape), numpy or torch, in the
                units of the demonstrations.
            noise: (B, horizon, action_dim) standard normal, before `noise_scale`; drawn when left
                out.
            prefix: (B, d, action_dim) in the robot's units, d at most `max_prefix`: actions that
                are executed first whatever the policy says. The chunk has exactly these from index
                ``n_obs_steps`` - 1 on and continues them.

        Raises:
            InputError: an observation or the prefix is missing, has another shape, or is not
                finite.
            FloatingPointError: the sampled action is not finite; it never reaches a robot.
        """
        with torch.inference_mode():
            return self._sample_prepared(self._prepare(batch), noise, prefix)

    def encode(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return the condition of the velocity networks, (B, cond_dim); None without observations.

        It is that of chunks without a prefix. Arguments and errors as `sample`.
        """
        with torch.inference_mode():
            obs = self._prepare(batch)
            n_rows = next(iter(obs.values())).shape[0] if obs else 1
            return self._condition(obs, self._padded_prefix(None, n_rows))

    def _condition(
        self, obs: dict[str, Tensor], given: tuple[Tensor, Tensor] | None
    ) -> Tensor | None:
        """Return the condition from prepared observations and what `_padded_prefix` returns."""
        obs_cond: Tensor | None = self.model.encoder(obs)
        if self.model.prefix is None or given is None:
            return obs_cond
        actions, mask = given
        features = self.model.prefix.features(self.normalizer.normalize("action", actions), mask)
        return with_prefix(obs_cond, features)

    def _padded_prefix(self, prefix: Any, n_rows: int) -> tuple[Tensor, Tensor] | None:
        """Return actions and mask of a prefix; None where there is none and can be none."""
        if prefix is None and self.model.prefix is None:
            return None
        values, mask = padded_prefix(
            None if prefix is None else self._plain(prefix),
            n_rows=n_rows,
            max_prefix=self.max_prefix,
            action_dim=self.spec.action_dim,
            dtype=self.spec.dtype("action"),
        )
        return torch.from_numpy(values).to(self.device), torch.from_numpy(mask).to(self.device)

    def _sample_prepared(
        self, obs: dict[str, Tensor], noise: Tensor | None, prefix: Any = None
    ) -> ChunkResult:
        """Sample from checked and normalised observations; images may be features already."""
        with torch.inference_mode():
            n_rows = next(iter(obs.values())).shape[0] if obs else 1
            noise = self._draw_noise(n_rows) if noise is None else self._check_noise(noise, n_rows)
            given = self._padded_prefix(prefix, n_rows)
            cond = self._condition(obs, given)
            if self._noise_scale != 1:
                noise = noise * self._noise_scale
            result = self._chain.sample(noise, cond, solver=self._solvers)
            chunk = self.normalizer.unnormalize("action", result.x)
            if self.config.policy.clip_actions:
                action = self.normalizer["action"]
                chunk = torch.clamp(chunk, action.raw("min"), action.raw("max"))
            chunk = chunk.to(self._dtypes["action"])
            if not bool(torch.isfinite(chunk).all()):
                raise FloatingPointError(
                    "the policy's action is not finite: its velocity overflows at this observation"
                )
            if self.model.prefix is not None and given is not None:
                # To the digit and not nearly: the robot is executing these already.
                chunk = self.model.prefix.put(chunk, *given)
        return ChunkResult(chunk=chunk, nfe=result.nfe)

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: Tensor | None = None, prefix: Any = None
    ) -> Tensor:
        """Return the actions to execute, (B, n_action_steps, action_dim).

        Arguments, dtype and errors as `sample`.
        """
        return self._executed(self.sample(batch, noise=noise, prefix=prefix).chunk)

    # -- one robot ----------------------------------------------------------------------------

    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        result = self._sample_prepared(self._encoded_history(frames), None)
        actions: np.ndarray = self._executed(result.chunk)[0].cpu().numpy()
        return actions

    def _encoded_history(self, frames: Sequence[Frame]) -> dict[str, Tensor]:
        """Return the history (1, n_obs_steps, ...), images as features.

        A camera frame is encoded once, however many chunks see it.
        """
        new = [frame for frame in dict.fromkeys(frames) if frame.encoded is None]
        with torch.inference_mode():
            if new:
                stacked = {
                    key: np.stack([frame.obs[key] for frame in new])[None]
                    for key in self.spec.obs_shapes
                }
                encoded = self.model.encoder.encode_images(
                    {key: self._normalized(key, torch.from_numpy(v)) for key, v in stacked.items()}
                )
                for position, frame in enumerate(new):
                    frame.encoded = {key: value[0, position] for key, value in encoded.items()}
            return {
                key: torch.stack([frame.encoded[key] for frame in frames])[None]
                for key in self.spec.obs_shapes
            }

    def _normalized(self, key: str, value: Tensor) -> Tensor:
        value = value.to(self.device)
        if is_image(self.spec.obs_shapes[key]):
            return value
        return self.normalizer.normalize(key, value.to(self._dtypes[key]))

    # -- inside -------------------------------------------------------------------------------

    def _training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        stats = self.normalizer[key]
        return stats.raw("min").cpu().numpy(), stats.raw("max").cpu().numpy()

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().cpu()
        # numpy has no bfloat16.
        return (value.to(torch.float32) if value.dtype == torch.bfloat16 else value).numpy()

    def _prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        obs = {}
        n_rows: int | None = None
        for key, shape in self.spec.obs_shapes.items():
            value = require_observation(key, batch, self.spec.obs_shapes)
            value = self._as_tensor(key, value, image=is_image(shape)).to(self.device)
            check_history_shape(
                key,
                value.shape,
                n_obs_steps=self.n_obs_steps,
                frame_shape=shape,
                n_rows=n_rows,
            )
            n_rows = value.shape[0]
            if not bool(torch.isfinite(value).all()):
                raise not_finite(key)
            obs[key] = self._normalized(key, value)
        return obs

    def _check_noise(self, noise: Tensor, n_rows: int) -> Tensor:
        expected = (n_rows, *self.model.chunk_shape)
        if tuple(noise.shape) != expected:
            raise InputError(f"noise has shape {tuple(noise.shape)}, expected {expected}")
        return noise.to(self.device, torch.float32)

    def _draw_noise(self, n_rows: int) -> Tensor:
        shape = self.model.chunk_shape
        noise = self._seeded_noise(n_rows)
        if noise is None:
            return torch.randn(n_rows, *shape, device=self.device)
        return torch.from_numpy(noise).to(self.device)

    def _as_tensor(self, key: str, value: Any, *, image: bool) -> Tensor:
        if isinstance(value, Tensor):
            if value.dtype == torch.uint8 and image:
                return value
            if not image and key not in self.spec.float64_keys:
                return value.to(torch.float32)
        value = self._plain(value)
        if image:
            return torch.from_numpy(image_array(key, value))
        return torch.from_numpy(float_array(key, value, self.spec.dtype(key)))
