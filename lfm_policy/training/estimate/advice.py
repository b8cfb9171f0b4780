"""What to change of a training that takes long, with numbers computed from its estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lfm_policy.config import ExperimentConfig
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.text.numbers import duration
from lfm_policy.training.estimate.estimate import (
    GOAL_SECONDS,
    LONG_SECONDS,
    LONG_STEP_SECONDS,
    Estimate,
    fewer,
)
from lfm_policy.training.estimate.work import Share
from lfm_runtime.policy.spec import is_image

SIDES = (128, 84)
"""Pixels of a frame's longer side that are proposed: more hardly show more, but take longer."""

TEACHER_SAMPLES = "teacher's samples"
"""Label of what a teacher is asked for before students learn."""

FEWEST_STEPS = 2000
"""No fewer are proposed."""


@dataclass(frozen=True)
class Names:
    """What is called how where the advice is read: `distill` and `train` differ.

    Attributes:
        total_steps: option of a policy's steps.
        student_steps: option of a student's steps.
        asked_about: of what the teacher makes samples, in words.
    """

    total_steps: str = "training.total_steps"
    student_steps: str = "distill.training.total_steps"
    asked_about: str = ""


def advise(
    estimate: Estimate,
    config: ExperimentConfig,
    obs_shapes: Mapping[str, tuple[int, ...]],
    names: Names | None = None,
) -> list[str]:
    """Return what dominates a long training and what would change that; nothing for a short one.

    Args:
        estimate: what was measured.
        config: of what is trained.
        obs_shapes: observation -> shape of one frame.
        names: what options are called.
    """
    share = estimate.dominant
    if share is None or not estimate.is_long:
        return []
    names = names or Names()
    slow = share.unit == "step" and share.each > LONG_STEP_SECONDS
    what = f"{duration(share.each)} a {share.unit}, " if slow else ""
    said = [
        f"long: {what}{share.seconds / estimate.seconds:.0%} of the time is {share.label}"
        + _cameras_in_words(config, obs_shapes, share)
    ]
    if share.label == TEACHER_SAMPLES and names.asked_about:
        said[0] += f", about {names.asked_about}"
    proposals = []
    if share.label.startswith("encoder") or share.label == "features":
        proposals += _smaller_frames(estimate, share, config, obs_shapes)
    steps = {
        "encoder": ("training.encoder_steps", share.count),
        "blocks": (names.total_steps, share.count),
        "student": (names.student_steps, share.count),
        "features": ("training.encoder_views", config.training.encoder_views),
        TEACHER_SAMPLES: ("distill.samples", config.distill.samples),
    }
    fallback = (names.total_steps, share.count)
    option, count = steps.get(share.label, fallback)
    if share.label == "push-forward":
        proposals.append("training.block_training=parallel needs no push-forward")
    elif estimate.seconds > LONG_SECONDS:
        proposals += _fewer_steps(estimate, share, option, count)
    if estimate.device.startswith("cpu") and share.label != TEACHER_SAMPLES:
        proposals.append("a GPU takes a fraction of it")
    return [*said, *(f"  {proposal}" for proposal in proposals)]


def _fewer_steps(estimate: Estimate, share: Share, option: str, count: float) -> list[str]:
    """Propose a number with which all takes `GOAL_SECONDS`, or a quarter of its time at least."""
    others = estimate.seconds - share.seconds
    factor = max((GOAL_SECONDS - others) / share.seconds, 0.25)
    least = FEWEST_STEPS if share.unit == "step" else 1
    wanted = max(fewer(count, factor), least)
    if wanted >= count:
        return []
    left = others + share.seconds * wanted / count
    return [f"{option}={wanted} makes it {duration(left)} in all; more steps may do better"]


def _smaller_frames(
    estimate: Estimate,
    share: Share,
    config: ExperimentConfig,
    obs_shapes: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """Propose the next smaller one of `SIDES`: the time goes with the number of pixels."""
    seen = _seen(config, obs_shapes)
    largest = max((max(frame) for frame in seen.values()), default=0)
    side = next((side for side in SIDES if side < largest), None)
    if side is None:
        return []
    smaller = {key: small_enough(frame, side) for key, frame in seen.items()}
    factor = _pixels(smaller) / _pixels(seen)
    total = estimate.seconds - share.seconds * (1 - factor)
    return [
        f"{_resize_options(config, seen, smaller)} makes it about "
        f"{duration(share.each * factor)} a {share.unit}, {duration(total)} in all"
    ]


def _resize_options(
    config: ExperimentConfig,
    seen: Mapping[str, tuple[int, int]],
    smaller: Mapping[str, tuple[int, int]],
) -> str:
    """Return overrides, as a shell takes them, that make frames so small.

    Of all cameras at once, or of those that change by their names where their sizes differ or
    some have options of their own.
    """
    encoder = config.encoder
    assert isinstance(encoder, CamerasConfig)
    own = any("resize" in options for options in encoder.cameras.values())
    if len(set(smaller.values())) == 1 and not own:
        height, width = next(iter(smaller.values()))
        crop = " encoder.image.crop=[0.9,0.9]" if _has_crop(config) else ""
        return f"encoder.image.resize=[{height},{width}]{crop}"
    changed = [
        f"{key}: {{resize: [{height}, {width}]"
        + (", crop: [0.9, 0.9]}" if encoder.image_config(key).crop else "}")
        for key, (height, width) in smaller.items()
        if (height, width) != seen[key]
    ]
    return f"'encoder.cameras={{{', '.join(changed)}}}'"


def small_enough(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return height and width of at most ``side``, in about the same proportion."""
    factor = min(1.0, side / max(size))
    height, width = (max(1, round(length * factor)) for length in size)
    return height, width


def _pixels(frames: Mapping[str, tuple[int, int]]) -> int:
    return sum(height * width for height, width in frames.values())


def _has_crop(config: ExperimentConfig) -> bool:
    encoder = config.encoder
    return isinstance(encoder, CamerasConfig) and bool(encoder.image_config("").crop)


def _seen(
    config: ExperimentConfig, obs_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int]]:
    """Return height and width of what is encoded of every camera."""
    encoder = config.encoder
    if not isinstance(encoder, CamerasConfig):
        return {}
    seen = {}
    for key, shape in obs_shapes.items():
        if is_image(shape):
            image = encoder.image_config(key)
            seen[key] = image.crop_of(image.resized((shape[0], shape[1], shape[2])))
    return seen


def _cameras_in_words(
    config: ExperimentConfig, obs_shapes: Mapping[str, tuple[int, ...]], share: Share
) -> str:
    if not share.label.startswith("encoder"):
        return ""
    seen = _seen(config, obs_shapes)
    sizes = list(dict.fromkeys(f"{height} x {width}" for height, width in seen.values()))
    cameras = "1 camera" if len(seen) == 1 else f"{len(seen)} cameras"
    return f", which sees {cameras} of {' and '.join(sizes)} pixels" if seen else ""
