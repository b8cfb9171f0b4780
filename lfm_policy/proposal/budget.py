"""How long what is proposed will take here, and fewer steps where there is less time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation.estimate import estimate_student
from lfm_policy.distillation.group import group_edges, teacher_groups, teacher_solver
from lfm_policy.distillation.student import student_config
from lfm_policy.policy.checkpoint import CheckpointHeader
from lfm_policy.policy.model import PolicyModel
from lfm_policy.text.numbers import duration
from lfm_policy.training.estimate.advice import TEACHER_SAMPLES
from lfm_policy.training.estimate.estimate import Estimate, fewer
from lfm_policy.training.estimate.training import DataFacts, estimate_training, trial_run
from lfm_policy.training.estimate.work import Share

RESERVE = 0.85
"""Share of the minutes that is planned for: speed varies, and data are read."""

FIXED_SHARE = 0.4
"""So much of it is for what is no step: features, push-forward, the teacher's samples."""

LEAST_SHARE = 0.25
"""Of the steps, below which frames are made smaller, too."""

FEWEST_STEPS = 300
"""Of the encoder, of all blocks or of a student, however little time there is."""


@dataclass(frozen=True)
class Steps:
    """The options that say how long a training and a student take."""

    encoder_steps: int = 30_000
    total_steps: int = 24_000
    student_steps: int = 72_000
    encoder_views: int = 8
    samples: int = 8


@dataclass(frozen=True)
class Plan:
    """Both estimates, and what they are of.

    Attributes:
        training: of the policy.
        student: of one student of one step; None: it needs none.
        steps: of both.
        said: what fewer steps mean, in sentences; empty where nothing was changed.
    """

    training: Estimate
    student: Estimate | None
    steps: Steps
    said: tuple[str, ...] = ()

    @property
    def estimates(self) -> list[Estimate]:
        """The one, or both."""
        return [self.training] if self.student is None else [self.training, self.student]

    @property
    def seconds(self) -> float:
        """Seconds of all."""
        return sum(estimate.seconds for estimate in self.estimates)


def plan_for(
    config: ExperimentConfig, facts: DataFacts, *, distilled: bool = True, device: str, quiet: bool
) -> Plan:
    """Measure a few steps of a training and of a student on this machine.

    Args:
        config: of the policy.
        facts: of its demonstrations.
        distilled: whether there is a student.
        device: ``auto``, ``cpu`` or ``cuda``.
        quiet: no progress bar.

    Raises:
        InputError: the networks cannot be made for such data.
    """
    training = estimate_training(config, facts, device=device, quiet=quiet)
    student = None
    if distilled:
        student = estimate_distilling(config, facts, nfe=1, device=device, quiet=quiet)
    options = config.training
    steps = Steps(
        options.encoder_steps,
        options.total_steps,
        config.distill.training.get("total_steps", options.total_steps),
        options.encoder_views,
        config.distill.samples,
    )
    return Plan(training, student, steps)


def is_near(plan: Plan, minutes: float) -> bool:
    """Whether a plan fits into so many minutes with not too few of its steps (`LEAST_SHARE`)."""
    return LEAST_SHARE * plan.seconds <= RESERVE * 60 * minutes


def fitted(plan: Plan, minutes: float) -> Plan:
    """Return a plan that takes so many minutes in all, as far as that can be.

    First what is no step is brought to `FIXED_SHARE` of the time by fewer views of every frame and
    fewer samples of the teacher, then all steps to the rest, by one factor.
    """
    budget = RESERVE * 60 * minutes
    if plan.seconds <= budget:
        return replace(plan, said=(f"all fits into {minutes:g} minutes as it is",))
    before = plan.steps
    fixed = sum(s.seconds for s in _shares(plan) if not _is_step(s.label))
    less = min(1.0, FIXED_SHARE * budget / fixed) if fixed else 1.0
    steps = replace(
        before,
        encoder_views=max(1, round(before.encoder_views * less)),
        samples=max(1, round(before.samples * less)),
    )
    scaled = {
        "features": steps.encoder_views / before.encoder_views,
        TEACHER_SAMPLES: steps.samples / before.samples,
    }
    fixed = sum(s.seconds * scaled.get(s.label, 1) for s in _shares(plan) if not _is_step(s.label))
    stepping = plan.seconds - sum(s.seconds for s in _shares(plan) if not _is_step(s.label))
    factor = max(0.0, min(1.0, (budget - fixed) / stepping)) if stepping else 1.0

    def scale(count: int) -> int:
        return max(min(FEWEST_STEPS, count), fewer(count, factor))

    steps = replace(
        steps,
        encoder_steps=scale(before.encoder_steps),
        total_steps=scale(before.total_steps),
        student_steps=scale(before.student_steps),
    )
    said = [
        f"to fit {minutes:g} minutes, steps are {factor:.0%} of what is recommended"
        + (" (the least that is proposed)" if factor * before.total_steps < FEWEST_STEPS else "")
        + f", which takes {duration(plan.seconds)}: expect a less accurate policy, compare with "
        "`lfm-policy check`, and go on later with `lfm-policy train --resume`"
    ]
    if fixed > budget:
        said.append(
            f"{duration(fixed)} of it are no steps (features, push-forward, samples of the "
            "teacher), so that it will take longer all the same"
        )
    return replace(plan, steps=steps, said=tuple(said))


def estimate_distilling(
    config: ExperimentConfig,
    facts: DataFacts,
    *,
    nfe: int,
    method: str = "regression",
    groups: Sequence[int] = (),
    device: str = "auto",
    quiet: bool = True,
) -> Estimate:
    """Return how long distilling a policy will take that has yet to be trained.

    Args:
        config: of the teacher.
        facts: of its demonstrations.
        nfe: network evaluations of the student.
        method: name of the distillation method.
        groups: how many of the teacher's blocks each student block replaces.
        device: ``auto``, ``cpu`` or ``cuda``.
        quiet: no progress bar.

    Raises:
        InputError: the networks cannot be made for such data, every episode is too short, or
            ``nfe`` or ``groups`` do not fit the teacher's blocks.
    """
    header = CheckpointHeader(Path(config.name), config, facts.spec, {"complete": True})
    student = student_config(header, nfe=nfe, method=method, groups=groups)
    edges = group_edges(config.flow.n_blocks, student.flow.n_blocks, groups)
    solver = teacher_solver(student.distill, config)
    with trial_run(student, facts, device=device, quiet=quiet) as run:
        run.restore()
        teacher = PolicyModel(config, run.spec).to(run.device).eval().requires_grad_(False)
        chain = teacher_groups(teacher.chain(student.distill.teacher_guidance), edges, solver)
        return estimate_student(run, chain, facts.counts(student), made_up=True)


def _shares(plan: Plan) -> list[Share]:
    return [share for estimate in plan.estimates for share in estimate.shares]


def _is_step(label: str) -> bool:
    return label not in ("features", "push-forward", TEACHER_SAMPLES)
