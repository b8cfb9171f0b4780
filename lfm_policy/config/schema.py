"""Every option of an experiment: name, type, default, bounds and meaning, in one place.

The options of a network, an encoder or a dataset format stand beside their code
(`lfm_policy/networks/mlp.py` and so on) and are chosen by the key ``name`` of their section.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lfm_policy.config.option import option, validate_options
from lfm_policy.data.formats import DATASET_FORMATS, DatasetConfig
from lfm_policy.encoders import ENCODERS, EncoderConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import (
    COUPLINGS,
    INTERPOLANTS,
    METHODS,
    SOLVERS,
    TIME_SAMPLERS,
    Method,
    SolverSpec,
    check_step_times,
)
from lfm_policy.networks import NETWORKS, NetworkConfig
from lfm_runtime.registry import Registry


@dataclass
class PolicyConfig:
    """Shape of the history, of the predicted chunk and of what is executed of it.

    Execution starts at index ``n_obs_steps - 1`` of the chunk::

        step          0        1        2   ...                      horizon - 1
        observation   o        o
        chunk         a        a        a   a   a   a   a   a   a ...    a
        executed               |<-- n_action_steps -->|
    """

    n_obs_steps: int = option(2, "frames of observation history", minimum=1, maximum=64)
    horizon: int = option(16, "length of the predicted action chunk", minimum=1, maximum=4096)
    n_action_steps: int = option(8, "executed actions of a chunk", minimum=1, maximum=4096)
    clip_actions: bool = option(
        True, "clip actions to the range seen in the training demonstrations"
    )
    max_prefix: int = option(
        0,
        "most actions at the beginning of the executed part that a chunk can be made to continue, "
        "because a robot that does not wait is committed to them; 0: none",
        minimum=0,
        maximum=4096,
    )

    def __post_init__(self) -> None:
        longest = self.horizon - self.n_obs_steps + 1
        if self.n_action_steps > longest:
            raise InputError(
                f"policy.n_action_steps is {self.n_action_steps}, expected at most horizon - "
                f"n_obs_steps + 1 = {self.horizon} - {self.n_obs_steps} + 1 = {longest}"
            )
        if self.max_prefix >= longest:
            raise InputError(
                f"policy.max_prefix is {self.max_prefix}, expected less than horizon - n_obs_steps "
                f"+ 1 = {longest}: the policy has to choose at least one action itself"
            )


@dataclass
class NormalizationConfig:
    """How observations and actions are scaled before the network sees them."""

    obs: str = option("limits", "mode for observations", choices=["limits", "standard", "identity"])
    action: str = option("limits", "mode for actions", choices=["limits", "standard", "identity"])


@dataclass
class TimeConfig:
    """Distribution of the time t inside a block during training."""

    name: str = option("uniform", "distribution of t", choices=TIME_SAMPLERS)
    alpha: float = option(1.0, "first parameter of the Beta distribution", minimum=1e-3)
    beta: float = option(1.0, "second parameter of the Beta distribution", minimum=1e-3)
    points: list[float] = option([], "the times of `points`", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        if (self.name == "points") != bool(self.points):
            raise InputError(
                f"flow.time.name is '{self.name}' and flow.time.points is {self.points}: expected "
                "both name=points and a list of times, or neither"
            )


@dataclass
class FlowConfig:
    """The chain of blocks (arXiv:2410.02548, Algorithm 1). ``n_blocks: 1`` is flow matching."""

    n_blocks: int = option(1, "number N of blocks", minimum=1, maximum=64)
    c: float = option(0.1, "first OU time step, gamma_n = c * rho**(n-1)", minimum=1e-9, maximum=50)
    rho: float = option(1.5, "ratio of consecutive OU time steps", minimum=1e-3, maximum=100)
    step_sizes: list[float] = option(
        [], "OU time steps of blocks 1..N-1, instead of c and rho", minimum=1e-9, maximum=50
    )
    interpolant: str = option("linear", "path inside a block", choices=INTERPOLANTS)
    block_interpolants: list[str] = option(
        [], "interpolant of each block, instead of `interpolant`", choices=INTERPOLANTS
    )
    coupling: str = option("dependent", "how ends are paired", choices=COUPLINGS)
    method: str = option(
        "velocity", "what networks learn and how they move a chunk", choices=METHODS
    )
    time: TimeConfig = option(TimeConfig, "distribution of t in training")

    def __post_init__(self) -> None:
        if self.step_sizes and len(self.step_sizes) != self.n_blocks - 1:
            raise InputError(
                f"flow.step_sizes has {len(self.step_sizes)} elements, expected n_blocks - 1 = "
                f"{self.n_blocks - 1} (the last block is free)"
            )
        if self.block_interpolants and len(self.block_interpolants) != self.n_blocks:
            raise InputError(
                f"flow.block_interpolants has {len(self.block_interpolants)} elements, expected "
                f"n_blocks = {self.n_blocks}"
            )


@dataclass
class SamplerConfig:
    """How a chunk is sampled when nothing else is asked for."""

    solver: str = option("euler", "ODE solver", choices=SOLVERS)
    nfe: int = option(
        4,
        "network evaluations per chunk over all blocks (fixed-step solvers)",
        minimum=1,
        maximum=100_000,
    )
    rtol: float = option(1e-4, "relative tolerance of dopri5", minimum=1e-12, maximum=1.0)
    atol: float = option(1e-4, "absolute tolerance of dopri5", minimum=1e-12, maximum=1.0)
    times: list[float] = option(
        [],
        "times inside every block, from the noise to the data, at which a step ends; used when "
        "nfe gives as many steps, which otherwise are equal",
        minimum=0.0,
        maximum=1.0,
    )
    noise_scale: float = option(
        1.0,
        "standard deviation of the noise that sampling starts from; below 1 chunks are nearer to "
        "the most likely one, and 0 makes the policy deterministic",
        minimum=0.0,
        maximum=10.0,
    )

    def __post_init__(self) -> None:
        check_step_times(self.times, "sampler.times")


def check_evaluations(nfe: int, solver: str, n_blocks: int, *, key: str, method: Method) -> None:
    """Check that network evaluations can be shared out to blocks; adaptive solvers take any.

    Args:
        nfe: over all blocks.
        solver: its name.
        n_blocks: number of blocks.
        key: what to call ``nfe``.
        method: of the blocks; it says what a step costs.

    Raises:
        InputError: ``nfe`` is too small for one step in every block, or not whole steps.
    """
    per_step = method.evaluations(SolverSpec(solver))
    if per_step is None:
        return
    smallest = n_blocks * per_step
    if nfe < smallest or nfe % per_step:
        raise InputError(
            f"{key} is {nfe}, expected a multiple of {per_step} of at least {smallest}: "
            f"{n_blocks} block(s), and one step of '{solver}' takes {per_step} evaluation(s)"
        )


@dataclass
class PushForwardConfig:
    """Integration of the training set through a trained block."""

    solver: str = option("dopri5", "ODE solver", choices=SOLVERS)
    n_steps: int = option(32, "steps of a fixed-step solver", minimum=1, maximum=10_000)
    rtol: float = option(1e-4, "relative tolerance of dopri5", minimum=1e-12, maximum=1.0)
    atol: float = option(1e-4, "absolute tolerance of dopri5", minimum=1e-12, maximum=1.0)
    batch_size: int = option(2048, "chunks integrated together", minimum=1, maximum=1_000_000)
    checkpoint_every: int = option(8, "batches between checkpoints", minimum=1)


REMOVED_ENCODER_TRAINING = ("flow", "own")


@dataclass
class TrainingConfig:
    """One training run, all blocks."""

    total_steps: int = option(
        24_000,
        "gradient steps of all blocks together; 0 leaves blocks as the joint training with the "
        "encoder left them",
        minimum=0,
        maximum=1_000_000_000,
    )
    block_shares: list[float] = option(
        [], "share of the steps for each block (empty: equal)", minimum=1e-6
    )
    batch_size: int = option(256, "chunks per step and process", minimum=1, maximum=1_000_000)
    learning_rate: float = option(1e-3, "peak learning rate of AdamW", minimum=0.0, maximum=10.0)
    warmup_steps: int = option(200, "linear warm-up of each block, then cosine to 0", minimum=0)
    weight_decay: float = option(1e-6, "AdamW weight decay", minimum=0.0, maximum=10.0)
    beta1: float = option(0.9, "AdamW beta1", minimum=0.0, maximum=0.999999)
    beta2: float = option(0.999, "AdamW beta2", minimum=0.0, maximum=0.99999999)
    gradient_clip: float = option(1.0, "largest gradient norm; 0 turns clipping off", minimum=0.0)
    ema_decay: float = option(0.999, "largest decay of the weight average", minimum=0, maximum=1)
    ema_power: float = option(0.75, "warm-up exponent of the weight average", minimum=0, maximum=1)
    obs_noise: float = option(
        0.0,
        "standard deviation of noise added to normalised observations in training steps; makes "
        "the policy tolerant of states beside the demonstrated ones",
        minimum=0.0,
        maximum=10.0,
    )
    obs_noise_covariance: str = option(
        "identity",
        "identity: every number has its own noise; data: the noise has the covariance of the "
        "observations, so that what always moves together does so in displaced ones too",
        choices=["identity", "data"],
    )
    warm_start: bool = option(True, "block n+1 starts from the weights of block n (EMA too)")
    encoder: str = option(
        "block1",
        "when an observation encoder with weights learns: block1: with block 1 (right for one "
        "block); joint: first, with all blocks at once on exact OU marginals (the better one of "
        "several blocks in the same number of steps); after that it is frozen",
        choices=["block1", "joint"],
    )
    encoder_steps: int = option(
        0,
        "gradient steps of encoder and all blocks at once (encoder: joint), besides total_steps",
        minimum=0,
        maximum=1_000_000_000,
    )
    encoder_batch_size: int = option(
        0,
        "chunks per step and process while the encoder learns (0: batch_size)",
        minimum=0,
        maximum=1_000_000,
    )
    encoder_learning_rate: float = option(
        0.0,
        "peak learning rate while the encoder learns (0: learning_rate)",
        minimum=0.0,
        maximum=10.0,
    )
    encoder_views: int = option(
        8,
        "views of every camera frame (the centre crop, and random crops and colours) whose "
        "features are computed once when the encoder is frozen, for the rest of the training",
        minimum=1,
        maximum=1024,
    )
    block_training: str = option(
        "sequential",
        "sequential: a block trains on what earlier blocks push forward; parallel: on the exact "
        "OU marginal of the data, so that all blocks can train at once",
        choices=["sequential", "parallel"],
    )
    parallel_processes: int = option(
        1, "processes that train blocks at once (block_training: parallel)", minimum=1, maximum=64
    )
    mixed_precision: str = option("no", "autocast type", choices=["no", "fp16", "bf16"])
    compile: bool = option(False, "compile the networks with torch.compile")
    log_every: int = option(50, "steps between metrics", minimum=1)
    validation_every: int = option(1000, "steps between validation losses", minimum=1)
    checkpoint_every: int = option(2000, "steps between checkpoints", minimum=1)
    keep_checkpoints: int = option(1, "intermediate checkpoints kept", minimum=1, maximum=1000)
    num_threads: int = option(0, "torch CPU threads (0: leave as is)", minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        if self.encoder in REMOVED_ENCODER_TRAINING:
            raise InputError(
                f"training.encoder is '{self.encoder}', which was removed because 'joint' trains "
                "better policies in the same number of steps (docs/results.md): train with "
                "training.encoder=joint and training.encoder_steps, or with block1"
            )

    @property
    def joint_only(self) -> bool:
        """Whether the joint training is all that blocks get."""
        return self.encoder == "joint" and self.total_steps == 0


@dataclass
class DistillConfig:
    """How a student was, or is to be, distilled from a teacher; see `lfm_policy.distill`."""

    method: str = option("", "distillation method; empty: not a student")
    teacher: str = option("", "SHA-256 of the teacher's checkpoint, filled in by `distill`")
    teacher_blocks: int = option(
        0, "blocks of the teacher, filled in by `distill`", minimum=0, maximum=64
    )
    groups: list[int] = option(
        [],
        "blocks of the teacher that each student block replaces, data side first (empty: all as "
        "many), filled in by `distill`",
        minimum=1,
    )
    teacher_solver: str = option("midpoint", "ODE solver of the teacher's samples", choices=SOLVERS)
    teacher_steps: int = option(
        16, "steps per teacher block (fixed-step solvers)", minimum=1, maximum=10_000
    )
    samples: int = option(4, "teacher samples per observation", minimum=1, maximum=1000)
    recording: str = option(
        "",
        "recording of what a robot saw (`lfm-policy control --record`), about which the teacher is "
        "asked as about the demonstrations; what it did then does not matter",
    )
    recording_fingerprint: str = option(
        "", "identity of the recording's data, filled in by `distill`"
    )
    trajectory_points: int = option(
        8,
        "states of a teacher trajectory that the methods 'progressive' and 'consistency' train on",
        minimum=2,
        maximum=1024,
    )
    regression_weight: float = option(
        0.0,
        "weight of the regression loss in the method 'distribution'",
        minimum=0.0,
        maximum=1e6,
    )
    inputs: str = option(
        "teacher",
        "what a student block learns to take: states of the teacher; what the students nearer the "
        "noise really produce, to where the teacher takes that (student) or to where the teacher's "
        "own way leads from the same noise, which corrects their errors (corrected)",
        choices=["teacher", "student", "corrected"],
    )
    tail_weight: float = option(
        1.0,
        "weight in the loss of the actions of a chunk that are never executed; those that are "
        "executed have weight 1",
        minimum=0.0,
        maximum=1.0,
    )
    error_scale: float = option(
        0.0,
        "root mean square error of a chunk, in normalised units, far above which its loss grows "
        "with the error instead of its square (pseudo-Huber), so that chunks between two modes of "
        "the teacher do not outweigh the accuracy of all others; 0: squares",
        minimum=0.0,
        maximum=1e6,
    )
    warm_start: bool = option(
        True, "a student starts from the weights of its group's teacher block, if they fit"
    )
    network: dict[str, Any] = option(
        {},
        "options of `network` that students have in place of the teacher's own, such as {width: "
        "128}, or a network of another kind, such as {name: mlp, width: 192}; set in the teacher's "
        "configuration",
    )
    training: dict[str, Any] = option(
        {},
        "options of `training` that students have in place of the teacher's own, such as "
        "{total_steps: 72000, obs_noise: 0.05}; set in the teacher's configuration",
    )
    batch_size: int = option(2048, "samples integrated together", minimum=1, maximum=1_000_000)


@dataclass
class EnvConfig:
    """Where the policy is rolled out."""

    id: str = option("", "gymnasium id, such as lfm/PushT-v0; empty: none")
    max_episode_steps: int = option(300, "steps after which an episode is truncated", minimum=1)
    options: dict[str, Any] = option(
        {},
        "arguments of the environment, such as {cameras: [agentview]}; the description env_args of "
        "a robomimic file is filled in when a policy is trained on it",
    )


@dataclass
class ExperimentConfig:
    """Everything that determines a run. Saved in every run and in every checkpoint."""

    name: str = option("experiment", "name of the run; its folder is runs/<name>")
    seed: int = option(0, "seed of initial weights, batches, times and noise", minimum=0)
    dataset: DatasetConfig = option(DATASET_FORMATS.get("zarr"), "demonstrations")
    normalization: NormalizationConfig = option(NormalizationConfig, "scaling of data")
    policy: PolicyConfig = option(PolicyConfig, "history and chunk")
    encoder: EncoderConfig = option(ENCODERS.get("state"), "observation encoder")
    network: NetworkConfig = option(NETWORKS.get("mlp"), "velocity network of every block")
    block_networks: list[dict[str, Any]] = option(
        [], "changes to `network` for each block, such as [{width: 256}, {width: 128}]"
    )
    flow: FlowConfig = option(FlowConfig, "chain of blocks")
    sampler: SamplerConfig = option(SamplerConfig, "default sampler")
    push_forward: PushForwardConfig = option(PushForwardConfig, "push-forward between blocks")
    training: TrainingConfig = option(TrainingConfig, "optimisation")
    distill: DistillConfig = option(DistillConfig, "distillation (students only)")
    env: EnvConfig = option(EnvConfig, "environment for rollouts")

    def validate(self) -> None:
        """Check bounds of every option and what must hold between them.

        Raises:
            InputError: with the key, the value and what is allowed.
        """
        validate_options(self)
        n_blocks = self.flow.n_blocks
        if self.block_networks and len(self.block_networks) != n_blocks:
            raise InputError(
                f"block_networks has {len(self.block_networks)} elements, expected flow.n_blocks "
                f"= {n_blocks}"
            )
        # Now and not when the trained policy is loaded.
        check_evaluations(
            self.sampler.nfe,
            self.sampler.solver,
            n_blocks,
            key="sampler.nfe",
            method=METHODS.get(self.flow.method),
        )
        shares = self.training.block_shares
        if shares and len(shares) != n_blocks:
            raise InputError(
                f"training.block_shares has {len(shares)} elements, expected flow.n_blocks = "
                f"{n_blocks}"
            )
        self._validate_encoder_training()
        if self.training.total_steps < n_blocks and not self.training.joint_only:
            raise InputError(
                f"training.total_steps is {self.training.total_steps}, expected at least one step "
                f"for each of the {n_blocks} blocks"
            )
        if self.training.block_training == "parallel" and self.flow.coupling != "dependent":
            raise InputError(
                f"flow.coupling is '{self.flow.coupling}' with training.block_training 'parallel': "
                "the exact OU marginal given an observation holds for the dependent coupling only; "
                "use flow.coupling=dependent or training.block_training=sequential"
            )

    def _validate_encoder_training(self) -> None:
        training = self.training
        joint = training.encoder == "joint"
        if joint != bool(training.encoder_steps):
            raise InputError(
                f"training.encoder_steps is {training.encoder_steps} with training.encoder "
                f"'{training.encoder}': expected "
                + ("at least 1" if joint else "0, or training.encoder joint")
            )
        if joint and self.flow.coupling != "dependent":
            raise InputError(
                f"flow.coupling is '{self.flow.coupling}' with training.encoder 'joint', which "
                "works with the dependent coupling only; use flow.coupling=dependent or "
                "training.encoder=block1"
            )
        if joint and training.parallel_processes > 1:
            raise InputError(
                f"training.parallel_processes is {training.parallel_processes} with "
                "training.encoder 'joint', expected 1: blocks that learn together cannot be in "
                "processes of their own"
            )


CHOICES: dict[str, Registry[Any]] = {
    "dataset": DATASET_FORMATS,
    "encoder": ENCODERS,
    "network": NETWORKS,
}
"""Sections whose options depend on their key ``name``."""
