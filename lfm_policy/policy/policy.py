"""A trained policy: observations in, action chunks in the robot's units out.

From an observation to an action: `ChunkPolicy.select_action` checks and remembers the observation
and takes actions from a queue; where that is empty, `Policy` encodes frames that are new, draws
noise and calls the `Pipeline`, which does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config.sampler import SamplerChanges, check_guidance
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint_writer import require_replaceable, write_checkpoint
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.pipeline import ChunkResult, Pipeline, plan_sampler
from lfm_runtime.disk.files import atomic_folder
from lfm_runtime.policy.chunk_policy import ChunkPolicy, Frame
from lfm_runtime.policy.chunk_policy import chunk_noise as numpy_noise
from lfm_runtime.policy.observations import stacked
from lfm_runtime.policy.sampler import Sampler
from lfm_runtime.policy.spec import DataSpec


class Policy(ChunkPolicy):
    """Samples action chunks and, step by step, executes them.

    Built by `load_policy`. For one robot, call `reset` at the start of an episode and
    `select_action` at every step; for batches, call `predict_action_chunk`::

        policy = load_policy("runs/my_robot")
        policy.set_sampler(nfe=4)
        policy.reset()
        action = policy.select_action({"joints": joints})  # (action_dim,)
        actions = policy.predict_action_chunk({"joints": histories})  # (B, n_obs_steps, 7)

    Attributes:
        pipeline: what computes chunks.
        model: its networks.
        normalizer: its normaliser.
        info: of the training, and the identity of the checkpoint.
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
        self.pipeline = Pipeline(config, spec, model, normalizer, device=self.device)
        self.model, self.normalizer = self.pipeline.model, self.pipeline.normalizer
        self.info = dict(info or {})
        self.max_prefix = config.policy.max_prefix
        # Of the checkpoint, which is that of its weights, normaliser and options.
        self.digest = str(self.info.get("sha256", ""))

    # -- settings -----------------------------------------------------------------------------

    @property
    def sampler(self) -> Sampler:
        """How chunks are sampled; changed by `set_sampler`."""
        return self.pipeline.sampler

    @property
    def nfe(self) -> int | None:
        """Network evaluations per chunk; None for an adaptive solver, which decides itself."""
        per_block = self.nfe_per_block
        return None if per_block is None else sum(per_block)

    @property
    def nfe_per_block(self) -> tuple[int, ...] | None:
        """Network evaluations of each block, index 0 = data side; None for an adaptive solver."""
        return self.sampler.nfe_per_block

    @property
    def block_times(self) -> tuple[tuple[float, ...], ...]:
        """Times at which steps of each block end, index 0 = data side; () where they are equal."""
        return self.sampler.block_times

    @property
    def solver(self) -> str:
        """Name of the solver, the same in all blocks."""
        return self.sampler.solver

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise that sampling starts from."""
        return self.sampler.noise_scale

    @property
    def renoise(self) -> float:
        """Share of each block's noise that chunks are given, see `FlowChain.sample`."""
        return self.sampler.renoise

    @property
    def guidance(self) -> float:
        """Weight of the observation; 1: no guidance."""
        return self.sampler.guidance

    @property
    def metadata(self) -> dict[str, Any]:
        """What a caller has to know: shapes, dtypes, the horizons, the sampler; JSON values."""
        return {
            **super().metadata,
            "name": self.config.name,
            **self.sampler.to_dict(),
            "checkpoint_sha256": self.info.get("sha256", ""),
        }

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of the encoder, of each block and in total."""
        return self.model.parameter_counts()

    def set_sampler(self, **changes: Unpack[SamplerChanges]) -> None:
        """Choose another sampler for all later chunks; what is left out is as configured.

        ::

            policy.set_sampler(nfe=6)  # spread evenly: two in each of three blocks
            policy.set_sampler(nfe=[1, 1, 2], times=[[], [], [0.3]])

        - ``solver``: name of the ODE solver.
        - ``nfe``: network evaluations per chunk, spread evenly over all blocks, or those of each
          block, block 1 (data side) first.
        - ``times``: where steps end between t = 1 (noise) and t = 0 (data) of a block, decreasing:
          one list for all blocks that have as many steps, or one for each block, empty for equal
          steps. Configured for each block, they go with the configured evaluations.
        - ``noise_scale``: standard deviation of the noise that sampling starts from.
        - ``renoise``: share of each block's noise that a chunk is given before it, about 1 for one
          evaluation per block.
        - ``guidance``: weight of the observation; anything but 1 takes two evaluations in place of
          one, and a policy that was trained with ``flow.drop_obs``.

        Args:
            **changes: any of these; None: as configured.

        Raises:
            InputError: evaluations or times do not fit the blocks and the solver, the scale of the
                noise is negative or not finite, or guidance is out of range or other than 1 and
                the policy has not learned to do without an observation.
            TypeError: there is no such argument.
        """
        configured, flow = self.config.sampler, self.config.flow
        asked = configured.changed(**changes)
        check_guidance(asked.guidance, flow.drop_obs, key="guidance")
        solvers = plan_sampler(
            configured, self.model.n_blocks, method=flow.method.create(), **changes
        )
        self.pipeline.sample_with(asked, solvers)

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint from which `load_policy` makes a policy of the same actions.

        It has the present sampler and `n_action_steps`, and appears as a whole::

            policy.set_sampler(nfe=2)
            policy.save("my_policy")
            policy = load_policy("my_policy")

        Args:
            path: folder; it may not exist, or hold a checkpoint, which is replaced.

        Returns:
            The folder.

        Raises:
            InputError: the folder holds something else, or nothing is known of how the policy was
                trained.
        """
        folder = Path(path)
        training = {k: v for k, v in self.info.items() if k not in ("checkpoint", "sha256")}
        if "complete" not in training:
            raise InputError(
                f"{folder}: nothing is known of the training of this policy, which its checkpoint "
                "has to say: policies of load_policy and train can be saved"
            )
        require_replaceable(folder)
        steps = replace(self.config.policy, n_action_steps=self.n_action_steps)
        with atomic_folder(folder, replace=True) as temporary:
            write_checkpoint(
                temporary,
                config=replace(self.config, sampler=self.pipeline.options, policy=steps),
                spec=self.spec,
                model_state=self.model.state_dict(),
                normalizer=self.normalizer,
                training=training,
            )
        return folder

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
            obs, n_rows = self._checked_batch(batch)
            return self._sampled(self._normalized(obs), n_rows, noise, prefix)

    def encode(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Return the condition of the velocity networks, (B, cond_dim); None without observations.

        It is that of chunks without a prefix. Arguments and errors as `sample`.
        """
        with torch.inference_mode():
            obs, n_rows = self._checked_batch(batch)
            return self.pipeline.condition(self._normalized(obs), self._prefix(None, n_rows))

    def predict_action_chunk(
        self, batch: Mapping[str, Any], *, noise: Tensor | None = None, prefix: Any = None
    ) -> Tensor:
        """Return the actions to execute, (B, n_action_steps, action_dim).

        Arguments, dtype and errors as `sample`.
        """
        return self._executed(self.sample(batch, noise=noise, prefix=prefix).chunk)

    # -- inside -------------------------------------------------------------------------------

    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        with torch.inference_mode():
            result = self._sampled(self._encoded_history(frames), 1, None, None)
        actions: np.ndarray = self._executed(result.chunk)[0].cpu().numpy()
        return actions

    def _encoded_history(self, frames: Sequence[Frame]) -> dict[str, Tensor]:
        """Return the history (1, n_obs_steps, ...), normalised, images as features.

        A camera frame is encoded once, however many chunks see it.
        """
        new = [frame for frame in dict.fromkeys(frames) if frame.encoded is None]
        if new:
            obs = stacked([frame.obs for frame in new])
            encoded = self.model.encoder.encode_images(
                self._normalized({key: value[None] for key, value in obs.items()})
            )
            for position, frame in enumerate(new):
                frame.encoded = {key: value[0, position] for key, value in encoded.items()}
        return {
            key: torch.stack([frame.encoded[key] for frame in frames])[None]
            for key in self.spec.obs_shapes
        }

    def _normalized(self, obs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return self.pipeline.normalized(
            {key: torch.from_numpy(value).to(self.device) for key, value in obs.items()}
        )

    def _sampled(
        self, obs: Mapping[str, Tensor], n_rows: int, noise: Tensor | None, prefix: Any
    ) -> ChunkResult:
        """Sample from normalised observations, whose images may be features already."""
        noise = self._noise(noise, n_rows)
        result = self.pipeline.sample(obs, noise, self._prefix(prefix, n_rows))
        if not bool(torch.isfinite(result.chunk).all()):
            raise FloatingPointError(
                "the policy's action is not finite: its velocity overflows at this observation"
            )
        return result

    def _noise(self, noise: Tensor | None, n_rows: int) -> Tensor:
        shape = (n_rows, *self.chunk_shape)
        if noise is None:
            seeded = self._seeded_noise(n_rows)
            if seeded is None:
                return torch.randn(shape, device=self.device)
            noise = torch.from_numpy(seeded)
        elif tuple(noise.shape) != shape:
            raise InputError(f"noise has shape {tuple(noise.shape)}, expected {shape}")
        return noise.to(self.device, torch.float32)

    def _prefix(self, prefix: Any, n_rows: int) -> tuple[Tensor, Tensor] | None:
        """Return actions and mask of a prefix; None where there is none and can be none."""
        if prefix is None and not self.max_prefix:
            return None
        actions, mask = self._padded_prefix(prefix, n_rows)
        return torch.from_numpy(actions).to(self.device), torch.from_numpy(mask).to(self.device)

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values in training of an observation, no image.

        Args:
            key: name of the observation.

        Returns:
            Two arrays of its shape, in its unit.

        Raises:
            InputError: there is no such observation, or it is an image.
        """
        stats = self.normalizer[key]
        return stats.raw("min").cpu().numpy(), stats.raw("max").cpu().numpy()

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        license: str = "",
        description: str = "",
        token: str | None = None,
        message: str = "",
    ) -> str:
        """Upload the checkpoint that this was loaded from, with a model card; returns the address.

        It is as it is there, whatever was changed since; to publish another sampler, `save` it and
        push what was saved.

        Args:
            repo: ``user/name``; it is made when it is not there. `load_policy` takes it then.
            private: whether a new one can only be seen by its owner; None: as the account is set.
            license: as the hub calls it, such as ``apache-2.0``; empty: the card says that none is
                given.
            description: what the policy does, for the card.
            token: of the hub; by default that of ``hf auth login`` or ``HF_TOKEN``.
            message: of the commit.

        Raises:
            InputError: it was not loaded from a checkpoint, its training is not complete, or the
                hub cannot be reached or refuses it.
        """
        from lfm_policy.sharing.push import PushOptions, push_to_hub

        folder = str(self.info.get("checkpoint", ""))
        if not folder:
            raise InputError("this policy was not loaded from a checkpoint, which could be pushed")
        return push_to_hub(
            folder,
            repo,
            private=private,
            token=token,
            message=message,
            options=PushOptions(license=license, description=description),
        )

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().cpu()
        # numpy has no bfloat16.
        return (value.to(torch.float32) if value.dtype == torch.bfloat16 else value).numpy()


def chunk_noise(seed: int, episode: int, chunk: int, shape: tuple[int, ...]) -> Tensor:
    """Return the noise of one chunk as a tensor; see `lfm_runtime.policy.chunk_policy`."""
    return torch.from_numpy(numpy_noise(seed, episode, chunk, shape))
