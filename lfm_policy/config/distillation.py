"""Options of distilling a policy."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from lfm_policy.config.sampler import MAXIMUM_GUIDANCE
from lfm_policy.options import option, options

STUDENT_TRAINING: dict[str, Any] = {
    "total_steps": 72_000,
    "learning_rate": 3e-3,
    "obs_noise": 0.05,
    "obs_noise_covariance": "data",
}
"""Students fit a function and not a cloud of data, which takes more steps, and larger ones."""


@options
class DistillConfig:
    """How a student was, or is to be, distilled from a teacher; see `lfm_policy.distillation`."""

    method: str = option(
        "", "distillation method; empty: not a student", choices="distillation method"
    )
    teacher: str = option("", "SHA-256 of the teacher's checkpoint, filled in by `distill`")
    teacher_blocks: int = option(0, "blocks of the teacher, filled in by `distill`", ge=0, le=64)
    groups: list[Annotated[int, Field(ge=1)]] = option(
        [],
        "blocks of the teacher that each student block replaces, data side first (empty: all as "
        "many), filled in by `distill`",
    )
    teacher_solver: str = option(
        "", "ODE solver of the teacher's samples; empty: the one of its sampler", choices="solver"
    )
    teacher_steps: int = option(
        0,
        "steps per teacher block (fixed-step solvers); 0: as many as its sampler.nfe gives each, "
        "or those of its sampler.block_nfe, block_times and times",
        ge=0,
        le=10_000,
    )
    teacher_guidance: float = option(
        0.0,
        "guidance of the teacher's samples, see sampler.guidance; 0: the one of its sampler",
        ge=0,
        le=MAXIMUM_GUIDANCE,
    )
    samples: int = option(8, "teacher samples per observation", ge=1, le=1000)
    student_config: str = option(
        "",
        "name of the configuration that the student has of its own (`--student-config`), filled in "
        "by `distill`; empty: it sees what its teacher saw, by the teacher's encoder",
    )
    teacher_obs: list[str] = option(
        [],
        "observations of the teacher of a student with a configuration of its own, filled in by "
        "`distill`",
        max_length=4096,
    )
    teacher_data: str = option(
        "",
        "identity of what that teacher saw in the demonstrations, or of data for the student of a "
        "teacher whose own are not known, filled in by `distill`",
    )
    teacher_dataset: dict[str, Any] = option(
        {},
        "options of `dataset` by which that teacher's observations are read from the student's "
        "demonstrations, where the teacher's own obs_keys, rename and derive do not fit them",
    )
    recording: list[str] = option(
        [],
        "recordings of what a robot saw (`lfm-policy control --record`), one path or a list, about "
        "which the teacher is asked as about the demonstrations; what was done then does not "
        "matter; where nobody has these, as of imported policies, the first stands in for them",
    )
    recording_fingerprint: str = option(
        "", "identity of the recordings' data, filled in by `distill`"
    )
    trajectory_points: int = option(
        8,
        "states of a teacher trajectory that the methods 'progressive', 'consistency' and "
        "'flow_map' train on",
        ge=2,
        le=1024,
    )
    regression_weight: float = option(
        0.0, "weight of the regression loss in the method 'distribution'", ge=0, le=1e6
    )
    inputs: str = option(
        "corrected",
        "what a student block learns to take: states of the teacher; what the students nearer the "
        "noise really produce, to where the teacher takes that (student) or to where the teacher's "
        "own way leads from the same noise, which corrects their errors (corrected)",
        choices=["teacher", "student", "corrected"],
    )
    tail_weight: float = option(
        0.1,
        "weight in the loss of the actions of a chunk that are never executed; those that are "
        "executed have weight 1",
        ge=0,
        le=1,
    )
    error_scale: float = option(
        0.0,
        "root mean square error of a chunk, in normalised units, far above which its loss grows "
        "slower than its square, see error_power, so that chunks between two modes of the teacher "
        "do not outweigh the accuracy of all others; 0: squares",
        ge=0,
        le=1e6,
    )
    error_power: float = option(
        0.5,
        "how much slower it grows: 0.5 as the error itself (pseudo-Huber), 1 as its logarithm",
        ge=0,
        le=4,
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
        STUDENT_TRAINING,
        "options of `training` that students have in place of the teacher's own (fewer total_steps "
        "for a first look), set in the teacher's configuration; {}: the teacher's own",
        common=True,
    )
    batch_size: int = option(2048, "samples integrated together", ge=1, le=1_000_000)

    @field_validator("recording", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        """Take one path as a list of one, as checkpoints had it when there could be only one."""
        if isinstance(value, str):
            return [value] if value else []
        return value
