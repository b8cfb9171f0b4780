"""From a teacher's checkpoint to a student's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lfm_policy.assets import results_folder
from lfm_policy.checkpoint_folders import LATEST_FILE, run_of_checkpoint
from lfm_policy.config import DistillConfig, ExperimentConfig, config_to_dict
from lfm_policy.config.block_networks import student_network
from lfm_policy.config.environment import with_environment
from lfm_policy.config.load import changed_config
from lfm_policy.config.sampler import check_guidance
from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.distillation.group import group_edges, group_step_sizes
from lfm_policy.distillation.methods import METHODS
from lfm_policy.distillation.own.config import (
    OwnConfig,
    check_chunks_agree,
    own_options,
    with_earlier_round,
)
from lfm_policy.distillation.plan import DistillPlan
from lfm_policy.distillation.recordings import fingerprint_of, read_for_teacher, read_recordings
from lfm_policy.distillation.undocumented import (
    identity_of_data,
    is_undocumented,
    with_actions_of,
    with_observations,
)
from lfm_policy.errors import InputError
from lfm_policy.flow import SOLVERS, SolverSpec
from lfm_policy.flow.guidance import evaluations_per_step
from lfm_policy.policy.checkpoint import CheckpointHeader, read_header, read_normalizer
from lfm_policy.policy.model import ou_schedule
from lfm_policy.text.students import RECORDING_STANDS_IN, TEACHER_IMPORTED
from lfm_policy.training.rows.data import IMAGE_CACHE
from lfm_policy.training.run import Run
from lfm_policy.training.run_folder.best import SELECTION
from lfm_policy.training.selection import Rollouts, prepare_rollouts
from lfm_policy.training.train import train_parts
from lfm_runtime.disk.files import exists

PAIRS = "pairs"
FLOW_EVALUATIONS = 32
"""At least, of a teacher whose own solver integrates no flow."""


def student_config(
    teacher: CheckpointHeader,
    *,
    nfe: int,
    method: str,
    groups: Sequence[int] = (),
    overrides: Sequence[str] = (),
    own: OwnConfig | None = None,
) -> ExperimentConfig:
    """Return the options of a student: the teacher's, with N' = ``nfe`` blocks of one step.

    A guided teacher has students without guidance: one evaluation of theirs stands in for both
    answers of every step of the teacher.

    Args:
        teacher: checkpoint of the teacher.
        nfe: network evaluations of the student; a divisor of the teacher's number of blocks, or
            a multiple, where every block is cut into equal parts; any with ``groups``.
        method: name of the distillation method.
        groups: how many of the teacher's blocks each of the ``nfe`` student blocks replaces, data
            side first; empty: all as many.
        overrides: strings ``section.key=value``.
        own: configuration of a student that sees something else than its teacher, see
            `own_options`.

    Raises:
        InputError: the teacher is a student or not complete, ``nfe`` or ``groups`` do not fit its
            blocks, an override is wrong, or chunks of ``own`` are not the teacher's.
    """
    check_teacher(teacher)
    loss_class = METHODS.get(method)
    n_blocks = teacher.config.flow.n_blocks
    edges = group_edges(n_blocks, nfe, groups)
    sizes = ou_schedule(teacher.config.flow).step_sizes
    options: dict[str, Any] = config_to_dict(teacher.config)
    # The student of a group has the size of the teacher block nearest the noise, or all have one.
    sizes_of_blocks = [] if options["distill"]["network"] else options["block_networks"]
    options |= {
        "name": f"{options['name']}-nfe{nfe}",
        "init": {},
        "auxiliary": {},
        "network": asdict(student_network(teacher.config)),
        "block_networks": [sizes_of_blocks[math.ceil(end) - 1] for end in edges[1:]]
        if sizes_of_blocks
        else [],
    }
    options["flow"] |= {
        "n_blocks": nfe,
        "step_sizes": group_step_sizes(sizes, edges),
        "block_interpolants": [],
        "interpolant": "linear",
        "method": {"name": loss_class.student_method},
        "coupling": "dependent",
        "drop_obs": 0.0,
        "time": {"name": "uniform", "points": [], "noise_share": 0.0},
    }
    plain: dict[str, Any] = {"times": [], "block_nfe": [], "block_times": []}
    plain |= {"renoise": 0.0, "guidance": 1.0}
    options["sampler"] |= {"solver": "euler", "nfe": nfe, **plain}
    options["eval"] |= {"nfe": 0}
    options["training"] |= {
        "extended_from": [],
        "encoder_extended_from": [],
        "block_shares": [],
        "block_training": "sequential",
        "encoder": "block1",
        "encoder_steps": 0,
        **options["distill"]["training"],
    }
    # A student fits a function and not a cloud of data: dropout only blurs it.
    if "dropout" in options["network"]:
        options["network"]["dropout"] = 0.0
    if own is not None:
        options = own_options(own, teacher, options, overrides)
        options["name"] += f"-nfe{nfe}"
    options["distill"] |= {
        "network": {},
        "training": {},
        "method": method,
        "teacher": teacher.sha256,
        "teacher_blocks": n_blocks,
        "groups": list(groups),
    }
    loss_class.adapt(options)
    config = changed_config(options, overrides, label=str(teacher.folder))
    if own is not None:
        check_chunks_agree(config, teacher)
    else:
        _check_seen_alike(config, teacher.config)
    for section in ("network", "training"):
        if changes := getattr(config.distill, section):
            raise InputError(
                f"distill.{section} is {changes}: it stands in the configuration of a teacher and "
                f"is for its students; here, set {section}.<option>=<value>"
            )
    if config.flow.drop_obs:
        raise InputError(
            f"flow.drop_obs is {config.flow.drop_obs:g}, expected 0: a student has no guidance of "
            "its own; distill.teacher_guidance is that of the teacher's samples"
        )
    if config.auxiliary.used and not (own is not None and config.encoder.learns):
        raise InputError(
            f"auxiliary.keys is {config.auxiliary.keys}, expected none: the encoder of a student "
            "is its teacher's, and learns no more"
        )
    if config.distill.groups != list(groups):
        raise InputError(
            f"distill.groups is {config.distill.groups}; it follows from --groups, which also says "
            "how many blocks the student has"
        )
    return replace(config, distill=_with_teacher_sampler(config.distill, teacher.config, nfe))


def _check_seen_alike(config: ExperimentConfig, teacher: ExperimentConfig) -> None:
    """Check that a student sees what its teacher does, whose encoder it has.

    Raises:
        InputError: an option of what is seen, or the length of chunks, is another one.
    """
    there, here = config_to_dict(teacher), config_to_dict(config)
    for section, key in (
        *(("encoder", key) for key in there["encoder"]),
        *(("policy", key) for key in ("n_obs_steps", "horizon")),
    ):
        if here[section].get(key) != there[section][key]:
            raise InputError(
                f"{section}.{key} is {here[section].get(key)}, expected the teacher's "
                f"{there[section][key]}: a student sees what its teacher sees, by its encoder; one "
                "that sees something else has a configuration of its own, --student-config"
            )


def _with_teacher_sampler(
    options: DistillConfig, teacher: ExperimentConfig, nfe: int
) -> DistillConfig:
    """Fill in solver, steps per block and guidance, where they are to be those of the teacher."""
    rule, n_blocks = teacher.flow.method.create(), teacher.flow.n_blocks
    if teacher.sampler.renoise:
        warnings.warn(
            f"sampler.renoise of the teacher is {teacher.sampler.renoise:g}, and students learn "
            "what its blocks make without that: give the teacher more evaluations in place of it "
            "(sampler.nfe, distill.teacher_steps)",
            stacklevel=2,
        )
    guidance = options.teacher_guidance or teacher.sampler.guidance
    check_guidance(guidance, teacher.flow.drop_obs, key=("distill", "teacher_guidance"))
    own = teacher.sampler.solver or rule.default_solver
    solver = options.teacher_solver or own
    nfe_of_teacher = teacher.sampler.nfe // evaluations_per_step(teacher.sampler.guidance)
    if SOLVERS.get(solver).method:
        # Students learn from the flow, also between its ends, where schedulers know no way.
        if options.teacher_solver:
            raise InputError(
                f"distill.teacher_solver is '{solver}', expected one that integrates the "
                "teacher's flow: euler, midpoint, heun or dopri5"
            )
        solver, nfe_of_teacher = "midpoint", max(nfe_of_teacher, FLOW_EVALUATIONS)
    steps = options.teacher_steps
    if not steps:
        per_step = rule.evaluations(SolverSpec(solver))
        steps = max(1, nfe_of_teacher // (n_blocks * (per_step or 1)))
        # Where students need states on the way, it has a step to each of them.
        points = METHODS.get(options.method).points(options) * max(1, nfe // n_blocks)
        steps = math.ceil(steps / points) * points
        uneven = teacher.sampler.block_nfe or teacher.sampler.block_times or teacher.sampler.times
        if uneven and per_step and points == 1 and solver == own:
            steps = 0  # those of its sampler
    if steps:
        rule.check_solver(SolverSpec(solver, steps))
    _check_times(teacher.flow.time.points, options.method, solver, steps)
    return replace(options, teacher_solver=solver, teacher_steps=steps, teacher_guidance=guidance)


def _check_times(known: Sequence[float], method: str, solver: str, steps: int) -> None:
    """Check that a teacher which has learned at a few times is asked at no others.

    Args:
        known: these times; empty for a teacher of all times.
        method: of the distillation.
        solver: of the teacher's samples.
        steps: equal ones of each of its blocks; 0: those of its own sampler.

    Raises:
        InputError: it is.
    """
    times = [k / steps for k in range(1, steps + 1)]
    others = [time for time in times if all(abs(time - one) > 1e-6 for one in known)]
    if known and (METHODS.get(method).asks_teacher or (steps and solver != "euler") or others):
        raise InputError(
            f"the teacher has learned at the times {list(known)} alone (flow.time.points), and "
            "would be asked at others: expected --method regression or rectified, at most a step "
            "for each of its blocks (--nfe), and its own distill.teacher_solver and teacher_steps"
        )


def distill(
    teacher_path: str | Path,
    folder: Path | None = None,
    *,
    nfe: int,
    method: str = "regression",
    groups: Sequence[int] = (),
    overrides: Sequence[str] = (),
    own: OwnConfig | None = None,
    init_from: str | Path | None = None,
    pairs_folder: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    rollouts: Rollouts | None = None,
    quiet: bool = False,
) -> Path:
    """Distil a teacher; returns the student's final checkpoint folder.

    Args:
        teacher_path: checkpoint or run folder of the teacher.
        folder: run folder of the student; by default ``student-nfe<nfe>-<method>``, with the
            groups if they are given, beside the teacher's checkpoints (in ``runs/<name>`` for a
            teacher that comes with the package). With ``own`` its name stands for ``student``.
        nfe: network evaluations per chunk of the student.
        method: name of the distillation method.
        groups: how many of the teacher's blocks each student block replaces, see `student_config`.
        overrides: strings ``section.key=value``.
        own: configuration of a student that sees something else than its teacher: a bundled name,
            a file, or what such a file says; see `own_options`.
        init_from: checkpoint or run folder of such a student of an earlier round, whose weights
            this one starts from.
        pairs_folder: where teacher samples are kept; by default ``pairs`` in the teacher's run.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: go on from the newest checkpoint in ``folder``, if there is one.
        rollouts: rolls the student out while it is trained, see `lfm_policy.training.train`.
        quiet: no progress bars.

    Raises:
        InputError: bad input; see `student_config` and `DistillPlan`.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; what was done is kept.
        TrainingError: the loss became NaN.
    """
    teacher = read_header(teacher_path)
    config = student_config(
        teacher, nfe=nfe, method=method, groups=groups, overrides=overrides, own=own
    )
    source = None if init_from is None else read_header(init_from)
    if source is not None:
        config = with_earlier_round(config, source)
    config, recording_stands_in = with_observations(config, teacher)
    if own is not None:
        config = with_environment(config)
    prepare_rollouts(rollouts, config)
    root = results_folder(teacher_path)
    student = "student" if own is None else config.distill.student_config
    name = "-".join([f"{student}-nfe{nfe}", *map(str, groups), method])
    # Where the teacher's own training keeps its frames, also if one of its checkpoints is named.
    images = (run_of_checkpoint(teacher.folder) or root).parent / IMAGE_CACHE
    recordings = read_recordings(config, teacher, images, quiet=quiet)
    seen = None if own is None else read_for_teacher(config, teacher, images, quiet=quiet)
    data = "" if seen is None else seen.fingerprint()
    if seen is None and is_undocumented(teacher):
        data = identity_of_data(config, teacher, images, quiet=quiet)
    config = replace(
        config,
        distill=replace(
            config.distill, recording_fingerprint=fingerprint_of(recordings), teacher_data=data
        ),
    )
    folder = folder or root / name
    # Chunks are the teacher's; so is what students see, unless they see something of their own.
    normalizer = read_normalizer(teacher)
    if own is not None:
        normalizer = normalizer.only(ACTION_KEY)
        begun = read_header(folder) if resume and exists(folder / LATEST_FILE) else source
        normalizer = normalizer if begun is None else read_normalizer(begun)
    run = Run(
        config,
        folder,
        device=device,
        resume=resume,
        quiet=quiet,
        image_cache=images,
        source=source,
        normalizer=normalizer,
    )
    if teacher.imported:
        run.facts[TEACHER_IMPORTED] = teacher.imported
    if recording_stands_in:
        run.facts[RECORDING_STANDS_IN] = True
        actions = with_actions_of(read_normalizer(teacher), run.data.normalizer)
        run.data = replace(run.data, normalizer=actions)
    plan = DistillPlan(run, teacher, pairs_folder or root / PAIRS, recordings, seen, images)
    return train_parts(run, plan, plan.estimate, rollouts)


def check_teacher(teacher: CheckpointHeader) -> None:
    """Check that a checkpoint can be a teacher.

    Raises:
        InputError: it is a student, or its training is not complete.
    """
    if teacher.config.distill.method:
        raise InputError(
            f"{teacher.folder}: is a student itself (distilled by '{teacher.config.distill.method}'"
            "); give the teacher's checkpoint"
        )
    if not teacher.complete and SELECTION not in teacher.training:
        raise InputError(
            f"{teacher.folder}: its training is not complete; finish it with 'lfm-policy train ... "
            "--resume'"
        )
