"""Every option of an experiment: name, type, default, bounds and meaning, in one place.

Sections stand here, in `flow` and in `training`. The options of a network, an encoder or a
dataset format stand beside their code (`lfm_policy/networks/mlp.py` and so on) and are chosen by
the key ``name`` of their section.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import model_validator

from lfm_policy.config.auxiliary import AuxiliaryConfig
from lfm_policy.config.block_networks import network_configs, student_network
from lfm_policy.config.distillation import DistillConfig
from lfm_policy.config.flow import METHOD, FlowConfig, PushForwardConfig
from lfm_policy.config.sampler import SamplerConfig, check_guidance
from lfm_policy.config.training import EvalConfig, InitConfig, TrainingConfig
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import Chosen, option, options, with_changes

NORMALIZATIONS = ["limits", "quantiles", "standard", "identity"]

DATASET = Chosen("dataset format", "zarr")
ENCODER = Chosen("encoder", "state")
NETWORK = Chosen("network", "mlp")

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig
    from lfm_policy.encoders.options import EncoderConfig
    from lfm_policy.networks.options import NetworkConfig
else:  # of the class that their name chooses, which is imported when it is needed
    DatasetConfig = Annotated[Any, DATASET]
    EncoderConfig = Annotated[Any, ENCODER]
    NetworkConfig = Annotated[Any, NETWORK]


@options
class PolicyConfig:
    """Shape of the history, of the predicted chunk and of what is executed of it.

    Execution starts at index ``n_obs_steps - 1`` of the chunk::

        step          0        1        2   ...                      horizon - 1
        observation   o        o
        chunk         a        a        a   a   a   a   a   a   a ...    a
        executed               |<-- n_action_steps -->|
    """

    n_obs_steps: int = option(
        2,
        "frames that the policy sees, up to now: 2 show how fast things move",
        common=True,
        ge=1,
        le=64,
    )
    horizon: int = option(
        16,
        "actions that are predicted at a time (a chunk): 0.8 to 1.6 seconds of the robot's time",
        common=True,
        ge=1,
        le=4096,
    )
    n_action_steps: int = option(
        8,
        "actions of a chunk that are executed before the next: fewer react sooner, more move more "
        "evenly",
        common=True,
        ge=1,
        le=4096,
    )
    clip_actions: bool = option(
        True, "clip actions to the range seen in the training demonstrations"
    )
    max_prefix: int = option(
        0,
        "most actions at the beginning of the executed part that a chunk can be made to continue, "
        "because a robot that does not wait is committed to them; 0: none",
        ge=0,
        le=4096,
    )

    def __post_init__(self) -> None:
        longest = self.horizon - self.n_obs_steps + 1
        if self.n_action_steps > longest:
            raise OptionError(
                "n_action_steps",
                f"is {self.n_action_steps}, expected at most horizon - n_obs_steps + 1 = "
                f"{self.horizon} - {self.n_obs_steps} + 1 = {longest}",
            )
        if self.max_prefix >= longest:
            raise OptionError(
                "max_prefix",
                f"is {self.max_prefix}, expected less than horizon - n_obs_steps + 1 = {longest}: "
                "the policy has to choose at least one action itself",
            )


@options
class NormalizationConfig:
    """How observations and actions are scaled before the network sees them."""

    obs: str = option(
        "limits",
        "mode for observations: limits (the range to [-1, 1]), quantiles (1% to 99% of the values "
        "to [-1, 1], the rest beyond, not clipped: for data with outliers), standard (mean 0, "
        "standard deviation 1) or identity",
        choices=NORMALIZATIONS,
    )
    action: str = option("limits", "mode for actions", choices=NORMALIZATIONS)
    keys: dict[str, str] = option(
        {}, "modes of single observations, such as {force: quantiles}", choices=NORMALIZATIONS
    )

    def __post_init__(self) -> None:
        if "default" in self.keys:
            raise OptionError("keys", "names 'default': what all others have is obs")


@options
class EnvConfig:
    """Where the policy is rolled out."""

    id: str = option(
        "",
        "gymnasium id, such as lfm/PushT-v0; {task} in it stands for each of dataset.tasks; "
        "empty: none, as with a real robot",
        common=True,
    )
    max_episode_steps: int = option(
        300, "steps after which an episode is truncated", common=True, ge=1
    )
    options: dict[str, Any] = option(
        {},
        "arguments of the environment, such as {cameras: [agentview]}; the description env_args of "
        "a robomimic file is filled in when a policy is trained on it",
    )
    observations: dict[str, Any] = option(
        {},
        "names for what the environment observes, if it does not give it by the names of the "
        "demonstrations: {hand: [0, 3], goal: [3, 6]} are elements of an array, {state: all} is "
        "all of it, {image: pixels/top} what is called so, {left: [joints, 0, 7]} elements of that",
    )
    success: str = option(
        "info",
        "what says success: info (info['success'] or info['is_success']), or terminated, for "
        "environments that say nothing and end an episode before its time when it is solved",
        choices=["info", "terminated"],
    )

    def __post_init__(self) -> None:
        if self.observations:
            from lfm_envs import ObservationError, Reading

            try:
                Reading(self.observations)
            except ObservationError as error:
                raise OptionError("observations", f": {error}") from None


@options
class ExperimentConfig:
    """Everything that determines a run. Saved in every run and in every checkpoint.

    Made by `load_config`; every option with its meaning is in the reference of the configuration.
    """

    name: str = option("experiment", "name of the run; its folder is runs/<name>", common=True)
    seed: int = option(0, "seed of initial weights, batches, times and noise", common=True, ge=0)
    dataset: DatasetConfig = option(DATASET.defaults, "demonstrations")
    normalization: NormalizationConfig = option(NormalizationConfig, "scaling of data")
    policy: PolicyConfig = option(PolicyConfig, "history and chunk")
    encoder: EncoderConfig = option(ENCODER.defaults, "observation encoder")
    network: NetworkConfig = option(NETWORK.defaults, "velocity network of every block")
    block_networks: list[dict[str, Any]] = option(
        [], "changes to `network` for each block, such as [{width: 256}, {width: 128}]"
    )
    flow: FlowConfig = option(FlowConfig, "chain of blocks")
    sampler: SamplerConfig = option(SamplerConfig, "default sampler")
    push_forward: PushForwardConfig = option(PushForwardConfig, "push-forward between blocks")
    training: TrainingConfig = option(TrainingConfig, "optimisation")
    auxiliary: AuxiliaryConfig = option(AuxiliaryConfig, "what the encoder learns to tell besides")
    init: InitConfig = option(InitConfig, "policy that the training starts from")
    distill: DistillConfig = option(DistillConfig, "distillation (students only)")
    eval: EvalConfig = option(EvalConfig, "rollouts during training")
    env: EnvConfig = option(EnvConfig, "environment for rollouts")

    @property
    def student_blocks(self) -> int:
        """Number of blocks of a student; 0: it was not distilled."""
        return self.flow.n_blocks if self.distill.method else 0

    @model_validator(mode="after")
    def _check_together(self) -> ExperimentConfig:
        """Check what must hold between sections, now and not when a trained policy is loaded."""
        n_blocks, training = self.flow.n_blocks, self.training
        for key, values in (
            (("block_networks",), self.block_networks),
            (("training", "block_shares"), training.block_shares),
        ):
            if values and len(values) != n_blocks:
                raise OptionError(
                    key, f"has {len(values)} elements, expected flow.n_blocks = {n_blocks}"
                )
        if training.encoder == "auto":
            training = replace(training, encoder=self._encoder_training())
        if training.encoder != "joint":
            training = replace(training, encoder_steps=0)
        self.training = training
        self._check_encoder_training()
        self._check_auxiliary()
        if training.total_steps < n_blocks and not training.joint_only:
            raise OptionError(
                ("training", "total_steps"),
                f"is {training.total_steps}, expected at least one step for each of the "
                f"{n_blocks} blocks",
            )
        if training.block_training == "parallel" and self.flow.coupling != "dependent":
            raise OptionError(
                ("flow", "coupling"),
                f"is '{self.flow.coupling}' with training.block_training 'parallel': the exact OU "
                "marginal given an observation holds for the dependent coupling only; use "
                "flow.coupling=dependent or training.block_training=sequential",
            )
        pushes = training.block_training == "sequential" and not training.joint_only
        if n_blocks > 1 and pushes and not self.flow.method.has_velocity:
            raise OptionError(
                ("flow", "method", "name"),
                f"is '{self.flow.method.name}' with {n_blocks} blocks: its networks stand for no "
                "velocity, along which a block's training set could be pushed to the next one; use "
                "training.block_training=parallel, or flow.n_blocks=1",
            )
        if self.flow.method.needs_limits and self.normalization.action != "limits":
            raise OptionError(
                ("normalization", "action"),
                f"is '{self.normalization.action}' with flow.method.clip_sample, which cuts "
                "normalised actions off at -1 and 1: expected limits, or "
                "flow.method.clip_sample=false",
            )
        network_configs(self)
        student_network(self)
        try:
            none_before: dict[str, Any] = {"extended_from": [], "encoder_extended_from": []}
            with_changes(training, {**none_before, **self.distill.training})
        except OptionError as error:
            raise error.under("distill", "training") from None
        check_guidance(self.sampler.guidance, self.flow.drop_obs, key=("sampler", "guidance"))
        self._check_solvers()  # last, because only this imports torch
        return self

    def _check_solvers(self) -> None:
        """Check that solvers are not those of another method, and fit their options."""
        from lfm_policy.flow import SolverSpec  # imports torch

        method, section = self.flow.method.create(), "sampler"
        try:
            self.sampler.solvers(self.flow.n_blocks, method=method)
            if self.flow.method.has_velocity:
                section = "push_forward"
                method.check_solver(SolverSpec(self.push_forward.solver))
        except OptionError as error:
            raise error.under(section) from None
        except InputError as error:
            raise OptionError((section, "solver"), f": {error}") from None

    def _encoder_training(self) -> str:
        """Return what `training.encoder: auto` means here; it is kept in place of it."""
        training = self.training
        joint = (
            self.encoder.learns
            and self.flow.n_blocks > 1
            and self.flow.coupling == "dependent"
            and training.parallel_processes == 1
            and training.encoder_steps > 0
        )
        return "joint" if joint else "block1"

    def _check_encoder_training(self) -> None:
        training = self.training
        joint = training.encoder == "joint"
        if joint and not training.encoder_steps:
            raise OptionError(
                ("training", "encoder_steps"),
                "is 0 with training.encoder 'joint': expected at least 1",
            )
        if joint and self.flow.coupling != "dependent":
            raise OptionError(
                ("flow", "coupling"),
                f"is '{self.flow.coupling}' with training.encoder 'joint', which works with the "
                "dependent coupling only; use flow.coupling=dependent or training.encoder=block1",
            )
        if joint and training.parallel_processes > 1:
            raise OptionError(
                ("training", "parallel_processes"),
                f"is {training.parallel_processes} with training.encoder 'joint', expected 1: "
                "blocks that learn together cannot be in processes of their own",
            )

    def _check_auxiliary(self) -> None:
        observed = getattr(self.dataset, "obs_keys", [])
        action = getattr(self.dataset, "action_key", None)
        for key in self.auxiliary.keys:
            if key in observed:
                raise OptionError(
                    ("auxiliary", "keys"),
                    f"names '{key}', which the policy observes: targets are what the robot lacks; "
                    "leave it out here or in dataset.obs_keys",
                )
            if key == action:
                raise OptionError(
                    ("auxiliary", "keys"), f"names '{key}', the action, which is predicted anyway"
                )


SECTIONS: dict[str, Chosen] = {
    "dataset": DATASET,
    "encoder": ENCODER,
    "network": NETWORK,
    "flow.method": METHOD,
}
"""Sections whose options depend on their key ``name``, by dotted key."""
