"""The policy type ``lfm``: lfm-policy's networks, trained and asked the way LeRobot does."""

from __future__ import annotations

import copy
import logging
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from lerobot.lerobot_types import TransitionKey
from lerobot.policies import PreTrainedPolicy
from lerobot.processor import NormalizerProcessorStep
from lerobot.utils.device_utils import resolve_safetensors_device
from safetensors.torch import load_file
from torch import Tensor

from lerobot_policy_lfm.configuration_lfm import LFMConfig
from lerobot_policy_lfm.learning_lfm import Learning, validation_loss
from lfm_policy.data.normalizer import KeyStatistics, Normalizer
from lfm_policy.errors import InputError
from lfm_policy.lerobot.fields import ACTION, Feature, data_spec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.pipeline import Pipeline

PolicyT = TypeVar("PolicyT", bound="LFMPolicy")
EMA = "ema."

logger = logging.getLogger(__name__)


class LFMPolicy(PreTrainedPolicy):
    """Action chunks by Local Flow Matching.

    Observations and actions are normalised by LeRobot's processors, which stand before and after
    this, and images are between 0 and 1.

    Attributes:
        model: encoder and networks in training.
        ema: the same with the EMA of the weights, which acts.
        steps_done: of the training.
        action_min: smallest actions of the demonstrations, normalised, to which chunks are clipped.
        action_max: the largest.
    """

    config_class = LFMConfig
    name = "lfm"

    def __init__(
        self,
        config: LFMConfig,
        *,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        fresh: bool = True,
        **kwargs: Any,
    ) -> None:
        """Build a policy with fresh weights.

        Args:
            config: of the policy; it is completed with all options that are defaults of today.
            dataset_stats: of the demonstrations, for the range of actions.
            fresh: whether backbones begin with their pretrained weights; False where all weights
                are read afterwards.
            **kwargs: what LeRobot gives policies besides.

        Raises:
            InputError: an option or a feature is not what it has to be.
        """
        super().__init__(config)
        config.validate_features()
        self._features = config.observations()
        self._spec = data_spec(self._features, config.action_feature.shape[0])
        experiment = config.experiment()
        if fresh:
            encoder = experiment.encoder.resolved().with_sizes(self._spec.obs_shapes)
            experiment = replace(experiment, encoder=encoder)
        self._experiment = experiment
        config.keep(experiment)
        self.model = PolicyModel(experiment, self._spec)
        if fresh:
            self.model.encoder.load_pretrained()
        learnt = {id(p) for p in self.model.encoder.trained_parameters().values()}
        for parameter in self.model.encoder.parameters():
            parameter.requires_grad_(id(parameter) in learnt)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self._limits = _action_limits(config, dataset_stats)
        for name, value in zip(("action_min", "action_max"), self._limits, strict=True):
            self.register_buffer(name, value.clone())
        self._knows_limits = bool(dataset_stats)
        self._learning: Learning | None = None
        self._sampling: tuple[Pipeline, torch.device] | None = None
        self.reset()

    # -- training -----------------------------------------------------------------------------

    def get_optim_params(self) -> list[torch.nn.Parameter]:
        """Return what the optimiser changes: encoder and networks, no frozen backbone."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch, and the block that learns (0: all).

        In evaluation mode it is the mean loss of all blocks on the exact marginals, of the weights
        that act, and no noise is added to observations.

        Args:
            batch: observations (B, n_obs_steps, *shape) and actions (B, horizon, action_dim).

        Raises:
            InputError: something is missing in it, or has another shape.
        """
        obs, x_0 = self._observed(batch), batch[ACTION]
        if not self.training:
            return validation_loss(self.ema, x_0, obs), {}
        step = int(self.steps_done)
        learning = self._learnt()
        return learning.loss(step, x_0, obs), {"block": float(learning.part(step).n)}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights into their EMA; LeRobot calls this after every step."""
        self._learnt().updated(int(self.steps_done))
        self.steps_done += 1

    def train(self: PolicyT, mode: bool = True) -> PolicyT:
        """Set the mode; the weights that act are always in evaluation mode."""
        super().train(mode)
        self.ema.eval()
        return self

    def _learnt(self) -> Learning:
        if self._learning is None:
            config = self.config
            total = config.train_steps
            if not total and config.joint_share < 1:
                raise InputError(
                    "policy: nothing says how many steps there will be, after a share of which "
                    "blocks learn one by one: set --policy.train_steps to --steps, use LeRobot's "
                    "--use_policy_training_preset=true, or --policy.joint_share=1"
                )
            self._learning = Learning(
                self.model,
                self.ema,
                self._experiment,
                joint_share=config.joint_share,
                train_steps=total or 2**62,
            )
        return self._learning

    # -- acting -------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget what was seen and planned; LeRobot calls this at the start of an episode."""
        self._frames: dict[str, deque[Tensor]] = {}
        self._planned: deque[Tensor] = deque()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None) -> Tensor:
        """Return the next action, (B, action_dim), normalised.

        A chunk is computed when the actions of the last one are used up. In the first steps of an
        episode its first frame stands for those before it.

        Args:
            batch: one frame of each observation, (B, *shape).
            noise: standard normal (B, horizon, action_dim); drawn if None.

        Raises:
            InputError: an observation is missing or has another shape.
        """
        for f in self._features:
            frame = _taken(batch, f)
            if frame.ndim != len(f.shape) + 1:
                raise InputError(
                    f"'{f.key}' has shape {tuple(frame.shape)}, expected one frame (batch, "
                    f"{', '.join(map(str, f.there))})"
                )
            frames = self._frames.setdefault(f.key, deque(maxlen=self.config.n_obs_steps))
            frames.extend([frame] * (1 if frames else self.config.n_obs_steps))
        if not self._planned:
            history = {key: torch.stack(list(frames), 1) for key, frames in self._frames.items()}
            self._planned.extend(self.predict_action_chunk(history, noise=noise).unbind(1))
        return self._planned.popleft()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Tensor],
        noise: Tensor | None = None,
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the actions to execute, (B, n_action_steps, action_dim), normalised.

        In LeRobot's real-time chunking (``inference_delay`` is given) these are all from the newest
        frame on, (B, horizon - n_obs_steps + 1, action_dim), and the first are those that the robot
        is committed to: it is executing them while this is computed, and the policy continues them,
        as it learnt from demonstrations whose beginning it was shown.

        Args:
            batch: observations (B, n_obs_steps, *shape), or one frame (B, *shape), which then
                stands for all of the history.
            noise: standard normal (B, horizon, action_dim); drawn if None.
            inference_delay: actions that will be executed meanwhile.
            prev_chunk_left_over: (T, action_dim) or (B, T, action_dim), what is left of the last
                chunk, normalised; rows of zeros at its end are LeRobot's padding.
            **kwargs: other options of LeRobot's real-time chunking, which guides where this
                continues.

        Raises:
            InputError: an observation is missing or has another shape, or the policy cannot
                continue actions.
        """
        obs = self._observed(batch)
        rows = next(iter(obs.values())).shape[0] if obs else 1
        prefix = self._prefix(rows, inference_delay or 0, prev_chunk_left_over)
        shape = (rows, *self.model.chunk_shape)
        if noise is None:
            noise = torch.randn(shape, device=self.device)
        elif tuple(noise.shape) != shape:
            raise InputError(f"noise has shape {tuple(noise.shape)}, expected {shape}")
        chunk = self._pipeline().sample(obs, noise.to(self.device, torch.float32), prefix).chunk
        first = self.config.n_obs_steps - 1
        if inference_delay is not None:
            return chunk[:, first:]
        return chunk[:, first : first + self.config.n_action_steps]

    def supports_rtc(self) -> bool:
        """Whether real-time chunking is possible: with ``max_prefix``, from one frame alone.

        LeRobot shows a policy the frames at which it asks for a chunk, and not those between them.
        """
        config = self.config
        if config.max_prefix and config.n_obs_steps > 1:
            logger.warning(
                "real-time chunking needs n_obs_steps=1, this policy sees %d frames: LeRobot shows "
                "it only those at which a chunk is asked for",
                config.n_obs_steps,
            )
        return config.max_prefix > 0 and config.n_obs_steps == 1

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        return self.action_min.device

    def _prefix(
        self, rows: int, delay: int, left_over: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Return committed actions (B, max_prefix, action_dim) and their mask (B, max_prefix)."""
        condition = self.model.prefix
        if condition is None:
            if delay and left_over is not None:
                raise InputError(
                    "policy: max_prefix is 0, so it cannot continue actions that a robot is "
                    "committed to: train one with --policy.max_prefix=6 (more than the delay)"
                )
            return None
        most, action_dim = condition.max_prefix, self._spec.action_dim
        actions = torch.zeros(rows, most, action_dim, device=self.device)
        mask = torch.zeros(rows, most, device=self.device)
        if left_over is None or not delay:
            return actions, mask
        left_over = left_over.to(self.device, torch.float32)
        left_over = (left_over[None] if left_over.ndim == 2 else left_over).expand(rows, -1, -1)
        if left_over.shape[2] != action_dim:
            raise InputError(
                f"prev_chunk_left_over has shape {tuple(left_over.shape)}, expected (batch, steps, "
                f"{action_dim})"
            )
        there = (left_over != 0).any(2).any(0).nonzero()
        known = int(there[-1]) + 1 if len(there) else 0
        count = min(delay, known, most)
        if delay > most:
            logger.warning(
                "a chunk takes %d steps to compute, the policy continues at most %d actions "
                "(max_prefix): it may jump after them",
                delay,
                most,
            )
        actions[:, :count], mask[:, :count] = left_over[:, :count], 1.0
        return actions, mask

    def _observed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return observations (B, n_obs_steps, *shape) as lfm-policy has them, by its names."""
        steps, observed = self.config.n_obs_steps, {}
        for f in self._features:
            value = _taken(batch, f)
            if value.ndim == len(f.shape) + 1:
                value = value.unsqueeze(1).expand(-1, steps, *[-1] * len(f.shape))
            if f.is_camera:
                if value.is_floating_point():
                    value = (value * 255).round().clamp(0, 255).to(torch.uint8)
                value = value.movedim(-3, -1)
            observed[f.name] = value
        return observed

    def _pipeline(self) -> Pipeline:
        """Return what computes chunks with the EMA weights, on the device of the policy.

        What is normalised for it is normalised already, so its own transforms change nothing.
        """
        if self._sampling is None or self._sampling[1] != self.device:
            one = torch.ones_like(self.action_min)
            zero = torch.zeros_like(one)
            unchanged = KeyStatistics(one, zero, self.action_min, self.action_max, zero, one)
            normalizer = Normalizer({ACTION: unchanged})
            pipeline = Pipeline(
                self._experiment, self._spec, self.ema, normalizer, device=self.device
            )
            # In a tuple: the pipeline holds modules of this policy and is none of them.
            self._sampling = pipeline, self.device
        return self._sampling[0]

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path: str | Path, **kwargs: Any) -> LFMPolicy:
        """Read a policy that `save_pretrained` or lfm-policy wrote; see LeRobot's own."""
        return super().from_pretrained(pretrained_name_or_path, **{"fresh": False, **kwargs})

    def _save_pretrained(
        self, save_directory: Path, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write configuration and weights; the EMA only where it differs from them."""
        state = self.state_dict() if state_dict is None else state_dict
        model = {n.removeprefix("model."): w for n, w in state.items() if n.startswith("model.")}
        if all(torch.equal(weight, state[EMA + name]) for name, weight in model.items()):
            state = {name: weight for name, weight in state.items() if not name.startswith(EMA)}
        super()._save_pretrained(save_directory, state_dict=state)

    @classmethod
    def _load_as_safetensor(
        cls, model: LFMPolicy, model_file: str, map_location: str, strict: bool
    ) -> LFMPolicy:
        """Read weights, all of them: a policy with some at random is never made.

        Raises:
            InputError: weights are missing, or there are others.
        """
        state = load_file(model_file, device=resolve_safetensors_device(map_location))
        if not any(name.startswith(EMA) for name in state):
            state |= {EMA + n[len("model.") :]: w for n, w in state.items() if n[:6] == "model."}
        own = model.state_dict()
        for name in sorted(own.keys() | state.keys()):
            have = tuple(state[name].shape) if name in state else None
            expected = tuple(own[name].shape) if name in own else None
            if have != expected:
                raise InputError(
                    f"{model_file}: '{name}' has shape {have}, expected {expected}: the weights "
                    "are not those of the policy that config.json describes"
                )
        model.load_state_dict(state)
        if model._knows_limits:
            model.action_min.copy_(model._limits[0])
            model.action_max.copy_(model._limits[1])
        if model.config.begins_anew:
            model.steps_done.zero_()
            model.model.load_state_dict(model.ema.state_dict())
        return model


def _taken(batch: dict[str, Tensor], f: Feature) -> Tensor:
    if f.key not in batch:
        raise InputError(
            f"the observation '{f.key}' is missing; there are {', '.join(sorted(batch))}: name it "
            "with --rename_map"
        )
    return batch[f.key]


def _action_limits(
    config: LFMConfig, dataset_stats: dict[str, dict[str, Any]] | None
) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest actions of the demonstrations, normalised by LeRobot."""
    assert config.output_features is not None and config.action_feature is not None
    size = config.action_feature.shape[0]
    if not dataset_stats:
        infinite = torch.full((size,), torch.inf)
        return -infinite, infinite
    normalise = NormalizerProcessorStep(
        features=config.output_features,
        norm_map=config.normalization_mapping,
        stats={ACTION: dataset_stats[ACTION]},
    )
    ends = []
    for end in ("min", "max"):
        raw = torch.as_tensor(dataset_stats[ACTION][end], dtype=torch.float32).reshape(size)
        ends.append(normalise({TransitionKey.ACTION: raw})[TransitionKey.ACTION].cpu())
    return ends[0], ends[1]
