"""A trained policy: observations in, action chunks in the robot's units out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.flow import SolverSpec
from lfm_policy.observations import is_image
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.noise import chunk_noise
from lfm_policy.policy.sampler import plan_sampler
from lfm_policy.policy.spec import DataSpec


@dataclass(frozen=True)
class ChunkResult:
    """One sampled chunk per row of the batch.

    Attributes:
        chunk: (B, horizon, action_dim) float32, in the robot's units.
        nfe: network evaluations it took.
    """

    chunk: Tensor
    nfe: int


class Policy:
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
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.normalizer = normalizer.to(self.device)
        self.info = dict(info or {})
        self._chain = self.model.chain()
        self._solvers = plan_sampler(config.sampler, self.model.n_blocks)
        self._noise_scale = config.sampler.noise_scale
        self._seed: tuple[int, int] | None = None
        self._chunks_drawn = 0
        self._history: deque[_Frame] = deque(maxlen=config.policy.n_obs_steps)
        self._queue: deque[np.ndarray] = deque()

    # -- settings -----------------------------------------------------------------------------

    @property
    def n_obs_steps(self) -> int:
        """Frames of observation history."""
        return self.config.policy.n_obs_steps

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each chunk."""
        return self.config.policy.n_action_steps

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

    def sample_seed(self, seed: int | None, episode: int = 0) -> None:
        """Make the noise reproducible: chunk k since then depends only on (seed, episode, k).

        ``None`` goes back to noise from torch's global generator.

        Raises:
            InputError: a negative seed or episode.
        """
        if seed is not None and (seed < 0 or episode < 0):
            raise InputError(f"seed is {seed} and episode {episode}, expected no negative number")
        self._seed = None if seed is None else (seed, episode)
        self._chunks_drawn = 0

    # -- batches ------------------------------------------------------------------------------

    def sample(self, batch: Mapping[str, Any], *, noise: Tensor | None = None) -> ChunkResult:
        """Sample whole chunks.

        Args:
            batch: observations by name, each (B, n_obs_steps, *shape), numpy or torch, in the
                units of the demonstrations.
            noise: (B, horizon, action_dim) standard normal, before `noise_scale`; drawn when left
                out.

        Raises:
            InputError: an observation is missing, has another shape, or is not finite.
            FloatingPointError: the sampled action is not finite; it never reaches a robot.
        """
        with torch.inference_mode():
            return self._sample_prepared(self._prepare(batch), noise)

    def encode(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return the condition of the velocity networks, (B, cond_dim); None without observations.

        Arguments and errors as `sample`.
        """
        with torch.inference_mode():
            cond: Tensor | None = self.model.encoder(self._prepare(batch))
        return cond

    def _sample_prepared(self, obs: dict[str, Tensor], noise: Tensor | None) -> ChunkResult:
        """Sample from checked and normalised observations; images may be features already."""
        with torch.inference_mode():
            n_rows = next(iter(obs.values())).shape[0] if obs else 1
            noise = self._draw_noise(n_rows) if noise is None else self._check_noise(noise, n_rows)
            obs_cond = self.model.encoder(obs)
            if self._noise_scale != 1:
                noise = noise * self._noise_scale
            result = self._chain.sample(noise, obs_cond, solver=self._solvers)
            chunk = self.normalizer.unnormalize("action", result.x)
            if self.config.policy.clip_actions:
                action = self.normalizer["action"]
                chunk = torch.clamp(chunk, action.min, action.max)
            if not bool(torch.isfinite(chunk).all()):
                raise FloatingPointError(
                    "the policy's action is not finite: its velocity overflows at this observation"
                )
        return ChunkResult(chunk=chunk, nfe=result.nfe)

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: Tensor | None = None
    ) -> Tensor:
        """Return the actions to execute, (B, n_action_steps, action_dim) float32.

        Arguments and errors as `sample`.
        """
        return self._executed(self.sample(batch, noise=noise).chunk)

    def _executed(self, chunk: Tensor) -> Tensor:
        first = self.n_obs_steps - 1
        return chunk[:, first : first + self.n_action_steps]

    # -- one robot ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the history and the queued actions; call at the start of an episode.

        After `sample_seed`, the noise starts again with chunk 0 of the same episode; call
        `sample_seed` too for the noise of another one.
        """
        self._history.clear()
        self._queue.clear()
        self._chunks_drawn = 0

    def select_action(self, obs: Mapping[str, Any]) -> np.ndarray:
        """Return the next action, (action_dim,) float32, given the newest observation.

        The first observation after `reset` fills the whole history. A new chunk is sampled when
        the last one has been executed; a camera frame is encoded once, however many chunks see it.

        Args:
            obs: observations by name, each of shape ``spec.obs_shapes[name]``; other names are
                ignored.

        Raises:
            InputError: as `sample`.
        """
        frame = _Frame(
            {key: self._check_frame(key, obs, shape) for key, shape in self.spec.obs_shapes.items()}
        )
        self._history.append(frame)
        while len(self._history) < self.n_obs_steps:
            self._history.append(frame)
        if not self._queue:
            result = self._sample_prepared(self._encoded_history(), None)
            self._queue.extend(self._executed(result.chunk)[0].cpu().numpy())
        return self._queue.popleft()

    def _encoded_history(self) -> dict[str, Tensor]:
        """Return the history (1, n_obs_steps, ...), images as features."""
        frames = list(dict.fromkeys(self._history))
        new = [frame for frame in frames if frame.encoded is None]
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
                key: torch.stack([_encoded(frame)[key] for frame in self._history])[None]
                for key in self.spec.obs_shapes
            }

    def _normalized(self, key: str, value: Tensor) -> Tensor:
        value = value.to(self.device)
        if is_image(self.spec.obs_shapes[key]):
            return value
        return self.normalizer.normalize(key, value.to(torch.float32))

    def fake_obs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Return a random valid observation: one frame, within the training range.

        float32, or uint8 for camera images.
        """
        generator = np.random.default_rng(seed)
        obs = {}
        for key, shape in self.spec.obs_shapes.items():
            if is_image(shape):
                obs[key] = generator.integers(0, 256, shape, dtype=np.uint8)
                continue
            low, high = (self.normalizer[key].min.cpu(), self.normalizer[key].max.cpu())
            obs[key] = generator.uniform(low.numpy(), high.numpy(), shape).astype(np.float32)
        return obs

    # -- inside -------------------------------------------------------------------------------

    def _check_frame(self, key: str, obs: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
        if key not in obs:
            raise InputError(self._missing(key, obs))
        frame = _as_image(key, obs[key]) if is_image(shape) else _as_float_array(key, obs[key])
        if frame.shape != tuple(shape):
            raise InputError(
                f"observation '{key}' has shape {frame.shape}, expected {tuple(shape)}"
            )
        # Now and not when the next chunk is sampled: a bad frame must not enter the history.
        if frame.dtype != np.uint8 and not np.isfinite(frame).all():
            raise InputError(f"observation '{key}' contains NaN or infinity")
        return frame

    def _missing(self, key: str, obs: Mapping[str, Any]) -> str:
        return (
            f"observation '{key}' is missing: found {sorted(obs) or 'nothing'}, expected "
            f"{sorted(self.spec.obs_shapes)}"
        )

    def _prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        obs = {}
        n_rows: int | None = None
        for key, shape in self.spec.obs_shapes.items():
            if key not in batch:
                raise InputError(self._missing(key, batch))
            value = _as_tensor(key, batch[key], image=is_image(shape)).to(self.device)
            expected = (self.n_obs_steps, *shape)
            if value.ndim != len(expected) + 1 or tuple(value.shape[1:]) != expected:
                raise InputError(
                    f"observation '{key}' has shape {tuple(value.shape)}, expected (B, "
                    f"{', '.join(str(size) for size in expected)}): batch, n_obs_steps, then one "
                    "frame"
                )
            if n_rows is not None and value.shape[0] != n_rows:
                raise InputError(
                    f"observation '{key}' has {value.shape[0]} rows, the others have {n_rows}"
                )
            n_rows = value.shape[0]
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"observation '{key}' contains NaN or infinity")
            obs[key] = self._normalized(key, value)
        return obs

    def _check_noise(self, noise: Tensor, n_rows: int) -> Tensor:
        expected = (n_rows, *self.model.chunk_shape)
        if tuple(noise.shape) != expected:
            raise InputError(f"noise has shape {tuple(noise.shape)}, expected {expected}")
        return noise.to(self.device, torch.float32)

    def _draw_noise(self, n_rows: int) -> Tensor:
        shape = self.model.chunk_shape
        if self._seed is None:
            return torch.randn(n_rows, *shape, device=self.device)
        seed, episode = self._seed
        # Row r of a batch stands for episode + r, so that a batch draws what its rows would alone.
        noise = torch.empty(n_rows, *shape)
        for r in range(n_rows):
            noise[r] = chunk_noise(seed, episode + r, self._chunks_drawn, shape)
        self._chunks_drawn += 1
        return noise.to(self.device)


@dataclass(eq=False)
class _Frame:
    """One observation of the history, and what has been made of it already."""

    obs: dict[str, np.ndarray]
    encoded: dict[str, Tensor] | None = None


def _encoded(frame: _Frame) -> dict[str, Tensor]:
    assert frame.encoded is not None
    return frame.encoded


def _as_tensor(key: str, value: Any, *, image: bool) -> Tensor:
    if image:
        return value if _is_bytes(value) else torch.from_numpy(_as_image(key, value))
    if isinstance(value, Tensor):
        return value.to(torch.float32)
    return torch.from_numpy(_as_float_array(key, value))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.uint8


def _as_image(key: str, value: Any) -> np.ndarray:
    """Return a copy of camera images as a uint8 array.

    Raises:
        InputError: it is not an array of uint8.
    """
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except ValueError as error:
        raise InputError(f"observation '{key}' is not an array: {error}") from None
    if array.dtype != np.uint8:
        raise InputError(
            f"observation '{key}' has dtype {array.dtype}, expected uint8: camera images of 0 to "
            "255, (height, width, channels)"
        )
    return np.array(array, order="C")


def _as_float_array(key: str, value: Any) -> np.ndarray:
    """Return a copy of an observation as a float32 array, of whatever numbers it was.

    A copy, because many environments return the same array again and again.

    Raises:
        InputError: it is not an array of real numbers.
    """
    try:
        array = (
            value.detach().to("cpu", torch.float32).numpy()
            if isinstance(value, Tensor)
            else np.asarray(value)
        )
    except ValueError as error:
        raise InputError(f"observation '{key}' is not an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"observation '{key}' has dtype {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        return np.array(array, dtype=np.float32, order="C")
