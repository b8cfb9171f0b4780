"""Options of the policy type ``lfm``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig

from lerobot_policy_lfm.schedule_lfm import LFMSchedulerConfig
from lfm_policy.config import ExperimentConfig
from lfm_policy.lerobot.fields import ACTION, FIELDS, Feature, experiment, feature, split
from lfm_policy.version import __version__

LABEL = "policy"


@PreTrainedConfig.register_subclass("lfm")
@dataclass
class LFMConfig(PreTrainedConfig):
    """Local Flow Matching (arXiv:2410.02548): a chain of small flows between chunks and noise.

    A chunk begins with the first of the observed frames; ``n_action_steps`` of it are executed from
    the newest frame on::

        step          0        1        2   ...                      horizon - 1
        observation   o        o
        chunk         a        a        a   a   a   a   a   a   a ...    a
        executed               |<-- n_action_steps -->|

    Attributes:
        n_obs_steps: frames that the policy sees.
        horizon: actions that are predicted at a time.
        n_action_steps: actions of a chunk that are executed.
        clip_actions: whether actions are clipped to the range of the demonstrations.
        max_prefix: most actions that a robot may be committed to while a chunk is computed
            (real-time chunking); 0: it waits for each.
        n_blocks: blocks of the chain; 1 is flow matching.
        network: ``unet1d``, ``mlp``, ``transformer``, ``conditional_unet1d``, or a plugin's.
        solver: of the flow; empty: the method's own (Euler).
        nfe: network evaluations per chunk, over all blocks.
        noise_scale: standard deviation of the noise that sampling starts from; below 1 chunks are
            nearer to the most likely one.
        obs_noise: standard deviation of noise on normalised observations in training.
        options: all other options of lfm-policy by section, such as ``{"flow": {"step_sizes":
            [0.01, 0.1]}, "network": {"channels": [64, 128]}}``; ``lfm-policy train own/state
            --options`` lists them.
        names: what lfm-policy calls observations, by LeRobot's names; the same if left out.
        normalization_mapping: of the types of features; images are scaled by the encoder.
        joint_share: share of the steps that trains encoder and all blocks with one loss, each on
            the exact marginal of the diffusion at its data side. In the other steps one block after
            another learns from what the blocks before it make of the demonstrations.
        train_steps: of the whole training, filled in by LeRobot's ``--steps``.
        training: what lfm-policy knows of the training of a policy that comes from there.
        lfm_policy_version: that wrote the options.
    """

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 8
    clip_actions: bool = True
    max_prefix: int = 0

    n_blocks: int = 3
    network: str = "unet1d"
    solver: str = ""
    nfe: int = 6
    noise_scale: float = 0.6
    obs_noise: float = 0.02
    options: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MIN_MAX,
            "ENV": NormalizationMode.MIN_MAX,
            "ACTION": NormalizationMode.MIN_MAX,
        }
    )

    joint_share: float = 0.5
    train_steps: int = 0
    ema_decay: float = 0.999
    ema_power: float = 0.75
    optimizer_lr: float = 1e-3
    optimizer_betas: tuple[float, float] = (0.9, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 0.01
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_share: float = 0.025
    training: dict[str, Any] = field(default_factory=dict)
    lfm_policy_version: str = __version__

    def __post_init__(self) -> None:
        super().__post_init__()
        self.begins_anew = False  # no option: whether a training was asked for, and not resumed
        if not 0 <= self.joint_share <= 1:
            raise ValueError(f"joint_share is {self.joint_share:g}, expected 0 to 1")
        visual = self.normalization_mapping.get("VISUAL", NormalizationMode.IDENTITY)
        if visual != NormalizationMode.IDENTITY:
            raise ValueError(
                f"normalization_mapping: VISUAL is {visual.value}, expected IDENTITY: the encoder "
                "scales images itself"
            )
        if self.input_features:
            self.experiment()
        else:  # all that can be said before the cameras are known
            known = {k: v for k, v in self.options.items() if k != "encoder"}
            experiment(self._values(), known, [], self._modes(), label=LABEL)

    def experiment(self) -> ExperimentConfig:
        """Return the same in the words of lfm-policy, checked.

        Raises:
            InputError: an option is unknown or wrong.
        """
        return experiment(
            self._values(), self.options, self.observations(), self._modes(), label=LABEL
        )

    def observations(self) -> list[Feature]:
        """Return what the policy observes.

        Raises:
            InputError: a type of feature that is not supported.
        """
        return [
            feature(key, self.names.get(key, key), found.type.value, found.shape, LABEL)
            for key, found in (self.input_features or {}).items()
        ]

    def keep(self, config: ExperimentConfig) -> None:
        """Hold all options of a configuration, also those that are defaults of today."""
        _, self.options = split(config)
        self.lfm_policy_version = __version__

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS}

    def _modes(self) -> dict[str, str]:
        return {kind: mode.value for kind, mode in self.normalization_mapping.items()}

    def validate_features(self) -> None:
        """Check what is observed and done.

        Raises:
            ValueError: there is no action of one dimension.
        """
        self.observations()
        action = self.action_feature
        if action is None or len(action.shape) != 1:
            found = None if action is None else action.shape
            raise ValueError(f"'{ACTION}' has shape {found}, expected one dimension")

    def get_optimizer_preset(self) -> AdamWConfig:
        """Return AdamW."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> LFMSchedulerConfig:
        """Return a warm-up and a cosine for every part of a training, which begins with it."""
        self.train_steps, self.training, self.begins_anew = 0, {}, True
        scheduler = LFMSchedulerConfig(
            warmup_share=self.scheduler_warmup_share,
            joint_share=self.joint_share,
            n_blocks=self.n_blocks,
        )
        scheduler.policy = self
        return scheduler

    @property
    def drop_n_last_frames(self) -> int:
        """Frames at the end of an episode that begin no chunk: most of theirs would be padding."""
        return self.horizon - self.n_action_steps - self.n_obs_steps + 1

    @property
    def observation_delta_indices(self) -> list[int]:
        """Frames of an observation, relative to the newest."""
        return list(range(1 - self.n_obs_steps, 1))

    @property
    def action_delta_indices(self) -> list[int]:
        """Actions of a chunk, relative to the newest frame."""
        return list(range(1 - self.n_obs_steps, 1 - self.n_obs_steps + self.horizon))

    @property
    def reward_delta_indices(self) -> None:
        """Nothing: rewards are not looked at."""
        return None
