"""Options of training a policy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field, field_validator

from lfm_policy.errors import OptionError
from lfm_policy.options import option, options


@options
class TrainingConfig:
    """One training run, all blocks."""

    total_steps: int = option(
        24_000,
        "gradient steps of all blocks together: more for more data, as long as the validation "
        "loss falls; `--resume` may raise it (see extended_from); 0 leaves blocks as the joint "
        "training with the encoder left them",
        common=True,
        ge=0,
        le=1_000_000_000,
    )
    extended_from: list[Annotated[int, Field(ge=0)]] = option(
        [],
        "total_steps of the passes before, filled in when a run is continued with more of them: "
        "the earlier pass is finished as it was; then every block goes on from its weights for the "
        "steps that were added, with a fresh optimiser, a new warm-up and a new cosine, on what "
        "earlier blocks push forward by then",
    )
    encoder_extended_from: list[Annotated[int, Field(ge=0)]] = option(
        [], "encoder_steps of the passes before, one for each of extended_from"
    )
    block_shares: list[Annotated[float, Field(ge=1e-6)]] = option(
        [], "share of the steps for each block (empty: equal)"
    )
    batch_size: int = option(256, "chunks per step and process", common=True, ge=1, le=1_000_000)
    learning_rate: float = option(
        1e-3,
        "peak learning rate of AdamW; 3e-4 for large networks, or where the loss jumps",
        common=True,
        ge=0,
        le=10,
    )
    warmup_share: float = option(
        0.025,
        "share of a block's steps in which the learning rate rises to its peak; then it falls to 0 "
        "along a cosine",
        ge=0,
        le=1,
    )
    warmup_steps: int | None = option(
        None, "as many steps instead, however many a block has; by default warmup_share says", ge=0
    )
    weight_decay: float = option(0.01, "AdamW weight decay", ge=0, le=10)
    beta1: float = option(0.9, "AdamW beta1", ge=0, le=0.999999)
    beta2: float = option(0.999, "AdamW beta2", ge=0, le=0.99999999)
    gradient_clip: float = option(1.0, "largest gradient norm; 0 turns clipping off", ge=0)
    ema_decay: float = option(0.999, "largest decay of the EMA of the weights", ge=0, le=1)
    ema_power: float = option(0.75, "warm-up exponent of the EMA of the weights", ge=0, le=1)
    obs_noise: float = option(
        0.02,
        "standard deviation of noise added to normalised observations in training steps; makes "
        "the policy tolerant of states beside the demonstrated ones; 0 where a hair's breadth "
        "matters",
        common=True,
        ge=0,
        le=10,
    )
    obs_noise_covariance: str = option(
        "identity",
        "identity: every number has its own noise; data: the noise has the covariance of the "
        "observations, so that what always moves together does so in displaced ones too",
        choices=["identity", "data"],
    )
    feature_noise: float = option(
        0.0,
        "the same of the features of a frozen image encoder, in units of what each varies by",
        ge=0,
        le=10,
    )
    warm_start: bool = option(True, "block n+1 starts from the weights of block n (EMA too)")
    encoder: str = option(
        "auto",
        "when an observation encoder with weights learns: block1: with block 1 (right for one "
        "block); joint: first, with all blocks at once on exact OU marginals (the better one of "
        "several blocks in the same number of steps); after that it is frozen. auto: joint "
        "wherever that can be",
        choices=["auto", "block1", "joint"],
    )
    encoder_steps: int = option(
        30_000,
        "gradient steps in which the encoder learns with all blocks at once (encoder: joint), "
        "before total_steps; with cameras most of the time goes here. 0 where nothing learns so",
        common=True,
        ge=0,
        le=1_000_000_000,
    )
    encoder_batch_size: int = option(
        64,
        "chunks per step and process while the encoder learns (0: batch_size)",
        ge=0,
        le=1_000_000,
    )
    encoder_draws: int = option(
        1,
        "noises and times drawn for each chunk of a batch while the encoder learns: it sees the "
        "batch once, and learns from the mean of so many errors of the blocks, which are cheap "
        "beside it",
        ge=1,
        le=1024,
    )
    encoder_learning_rate: float = option(
        0.0, "peak learning rate while the encoder learns (0: learning_rate)", ge=0, le=10
    )
    encoder_views: int = option(
        8,
        "views of every camera frame (the centre crop, and random crops and colours) whose "
        "features are computed once when the encoder is frozen, for the rest of the training",
        ge=1,
        le=1024,
    )
    block_training: str = option(
        "sequential",
        "sequential: a block trains on what earlier blocks push forward; parallel: on the exact "
        "OU marginal of the data, so that all blocks can train at once",
        choices=["sequential", "parallel"],
    )
    parallel_processes: int = option(
        1, "processes that train blocks at once (block_training: parallel)", ge=1, le=64
    )
    mixed_precision: str = option("no", "autocast type", choices=["no", "fp16", "bf16"])
    compile: bool = option(
        False,
        "compile networks and encoder with torch.compile, which takes a minute before the first "
        "step of each part",
    )
    cuda_graphs: bool = option(
        True,
        "on a GPU, record a gradient step once and replay it, which makes small networks several "
        "times as fast; steps that cannot be replayed (fp16, several processes, optimal coupling, "
        "distillation other than regression and rectified) are done as ever",
    )
    tf32: bool = option(
        False,
        "on a GPU, let matrix products round their inputs to 10 bits (TF32), several times as "
        "fast; convolutions do so anyway",
    )
    bf16_products: bool = option(
        False,
        "on a CPU, let the matrix products of gradient steps round their inputs to 7 bits "
        "(bf16): where lscpu shows amx_bf16, MLPs train 1.5 times as fast, for a first look or "
        "where 0.02 of success do not matter",
    )
    tracker: str = option(
        "tensorboard",
        "where to watch the training, besides metrics.jsonl: tensorboard and wandb write into the "
        "run folder (wandb is offline unless the variable WANDB_MODE says online), trackio where "
        "`trackio show` looks",
        common=True,
        choices=["none", "tensorboard", "wandb", "trackio"],
    )
    log_every: int = option(50, "steps between metrics", ge=1)
    validation_every: int = option(1000, "steps between validation losses", ge=1)
    checkpoint_every: int = option(2000, "steps between checkpoints", ge=1)
    keep_checkpoints: int = option(1, "intermediate checkpoints kept", ge=1, le=1000)
    num_threads: int = option(0, "torch CPU threads (0: leave as is)", ge=0, le=1024)

    @field_validator("encoder", mode="before")
    @classmethod
    def _refuse_removed(cls, value: Any) -> Any:
        if value in ("flow", "own"):
            raise OptionError(
                (),
                f"is '{value}', which was removed because 'joint' trains better policies in the "
                "same number of steps (docs/results/cameras.md): train with training.encoder=joint "
                "and training.encoder_steps, or with block1",
            )
        return value

    def __post_init__(self) -> None:
        ends = self.pass_ends
        if len(self.extended_from) != len(self.encoder_extended_from):
            raise OptionError(
                "encoder_extended_from",
                f"has {len(self.encoder_extended_from)} elements, expected as many as "
                f"extended_from: {len(self.extended_from)}",
            )
        for before, after in pairwise(ends):
            if after == before or after[0] < before[0] or after[1] < before[1]:
                raise OptionError(
                    "extended_from",
                    f"and encoder_extended_from say that passes ended at (total_steps, "
                    f"encoder_steps) {ends}: expected more steps in every pass",
                )

    @property
    def pass_ends(self) -> list[tuple[int, int]]:
        """Total and encoder steps at the end of every pass; the last is that of the options."""
        earlier = zip(self.extended_from, self.encoder_extended_from, strict=False)
        return [*earlier, (self.total_steps, self.encoder_steps)]

    @property
    def joint_only(self) -> bool:
        """Whether the joint training is all that blocks get."""
        return self.encoder == "joint" and self.total_steps == 0

    def warmup(self, n_steps: int) -> int:
        """Return how many of a block's steps the learning rate rises in."""
        if self.warmup_steps is None:
            return round(self.warmup_share * n_steps)
        return min(self.warmup_steps, n_steps)

    def of_encoder(self) -> TrainingConfig:
        """Return the options of the steps in which the encoder learns, with a batch of its own."""
        return replace(
            self,
            batch_size=self.encoder_batch_size or self.batch_size,
            learning_rate=self.encoder_learning_rate or self.learning_rate,
        )


@options
class EvalConfig:
    """Rollouts while a policy is trained; they change nothing of the training."""

    every: int = option(
        0,
        "gradient steps of all parts together between rollouts, which are also done at the end; 0: "
        "none. Only a whole policy is rolled out: while encoder and blocks learn together, and in "
        "later parts once all blocks have learnt something (of blocks trained one after another, "
        "in the last one). The best is kept as the checkpoint `best`",
        common=True,
        ge=0,
    )
    episodes: int = option(
        50, "episodes; the more, the less of what is best is luck", ge=1, le=100_000
    )
    seed_start: int = option(
        200_000,
        "environment seed of the first episode, of those that are for choosing: results are "
        "quoted of seeds from 100000",
        ge=200_000,
        le=2**31 - 100_001,
    )
    nfe: int = option(0, "network evaluations per chunk; 0: sampler.nfe", ge=0, le=100_000)


@options
class InitConfig:
    """A policy that the training starts from: that of ``--init-from``, see `training.start`."""

    source: str = option(
        "",
        "SHA-256 of the checkpoint whose weights the training starts from, filled in by "
        "--init-from; empty: from random weights",
    )
    normalizer: str = option(
        "keep",
        "keep: data are scaled as those that the policy knows, and actions clipped to the range of "
        "both; refit: as if there were only the new ones, which moves all that it has learnt",
        choices=["keep", "refit"],
    )
    encoder: str = option(
        "train",
        "whether an observation encoder with weights goes on learning (train: as training.encoder "
        "says) or stays as it is (freeze)",
        choices=["train", "freeze"],
    )
    blocks: str = option(
        "keep",
        "keep: every block starts from the policy's; new: the policy gives its encoder alone, with "
        "all options of the section encoder, and blocks start from random weights: they may be "
        "other networks, as many as one likes, of another method, horizon or robot's actions",
        choices=["keep", "new"],
    )
    new_obs: str = option(
        "refuse",
        "observations that the policy does not know: refuse: an error; add: they start without any "
        "influence, and it acts as before until it has learnt what to do with them",
        choices=["refuse", "add"],
    )

    @property
    def gives_blocks(self) -> bool:
        """Whether all blocks have learnt before the training begins."""
        return bool(self.source) and self.blocks == "keep"
