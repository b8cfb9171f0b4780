"""What is about to be trained, in words: the first lines of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_runtime.policy.spec import is_image

if TYPE_CHECKING:
    from lfm_policy.training.run import Run


def describe_run(run: Run) -> str:
    """Return networks, data and steps of a run, and what it starts from."""
    counts = ", ".join(f"{k} {v:,}" for k, v in run.model.parameter_counts().items())
    data = run.data
    left_out = len(data.left_out_episodes)
    too_short = f", {left_out} left out as too short" if left_out else ""
    return (
        f"{_start(run)}{_teacher(run)}parameters: {counts}\n"
        f"{_sizes(run)}"
        f"{_targets(run)}"
        f"data: {len(data.train):,} windows of {len(data.train_episodes)} training episodes"
        f" ({len(data.validation_episodes)} for validation{too_short}) from {data.source}\n"
        f"gradient steps: {_steps(run)}, "
        f"batch {run.options.batch_size} x {run.accelerator.num_processes} on {run.device}"
    )


def _start(run: Run) -> str:
    """Return from which policy the weights are, as a line of its own; empty for random ones."""
    config, source = run.config, run.source
    if source is None or run.header is not None:
        return ""
    normalizer = "its" if config.init.normalizer == "keep" else "a new"
    if config.init.blocks == "new":
        frozen = ", which is frozen" if config.init.encoder == "freeze" else ""
        return (
            f"starts from the encoder of {source.folder} ({source.config.encoder.name}){frozen}, "
            f"with {normalizer} normaliser; its blocks are new\n"
        )
    encoder = ", its encoder frozen" if config.init.encoder == "freeze" else ""
    student = ""
    if source.config.distill.method and config.flow.time.name == "points":
        student = (
            "; a student that stays one, of one evaluation for each block (what its teacher learns "
            "and is distilled again is better, where there is the time)"
        )
    return f"starts from {source.folder}, with {normalizer} normaliser{encoder}{student}\n"


def _teacher(run: Run) -> str:
    """Return what a student sees and what its teacher does, where that differs; else nothing."""
    distill, own = run.config.distill, run.spec.obs_shapes
    if not distill.student_config:
        return ""
    return f"student sees: {', '.join(own)}; its teacher: {', '.join(distill.teacher_obs)}\n"


def _steps(run: Run) -> str:
    """Return the steps of each block, and again those that were added."""
    steps = ", then ".join(part.in_words() for part in run.passes)
    if len(run.passes) > 1:
        steps += (
            f" (pass {run.progress.passed + 1} of {len(run.passes)}: blocks go on from their "
            "weights for added steps, with a fresh optimiser, a new warm-up and a new cosine)"
        )
    return steps


def _targets(run: Run) -> str:
    """Return what the encoder learns to tell besides, as a line of its own; empty for nothing."""
    if run.targets is None:
        return ""
    return (
        f"the encoder also learns to tell {run.targets.in_words()} (auxiliary.keys); "
        "metrics.jsonl says how well as auxiliary_rmse_<name>, in the same unit\n"
    )


def _sizes(run: Run) -> str:
    """Return which frames are resized, as a line of its own; empty for none."""
    shapes, size_of = run.spec.obs_shapes, run.config.encoder.frame_size
    sizes = {
        key: (shape[:2], size_of(key, (shape[0], shape[1], shape[2])))
        for key, shape in shapes.items()
        if is_image(shape)
    }
    changed = ", ".join(
        f"{key} {old[0]} x {old[1]} to {new[0]} x {new[1]}"
        for key, (old, new) in sizes.items()
        if old != new
    )
    off = "encoder.image.resize=[] leaves them as they are, [height, width] chooses a size"
    return f"frames are resized: {changed} ({off})\n" if changed else ""
