"""LeRobot's diffusion policy: a folder ``pretrained_model/``, of LeRobot 0.1 or later."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lfm_policy.checkpoint_folders import is_of_lerobot
from lfm_policy.errors import InputError
from lfm_policy.importing.description import Camera, ForeignPolicy, Observed, Settings
from lfm_policy.importing.lerobot.scaling import LeRobotScaling, read_scaling
from lfm_policy.importing.unet import read_unet
from lfm_runtime.disk.input_files import read_json_object

if TYPE_CHECKING:
    from torch import Tensor

FRAMEWORK = "LeRobot"
CONFIG = "config.json"
MODEL = "model.safetensors"
TYPE = "diffusion"

STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
NETWORK = "diffusion.unet."
CAMERA = "diffusion.rgb_encoder."

USED = frozenset(
    [
        *("type", "n_obs_steps", "horizon", "n_action_steps", "input_features", "output_features"),
        *("normalization_mapping", "vision_backbone", "resize_shape", "crop_ratio", "crop_shape"),
        *(
            "use_group_norm",
            "spatial_softmax_num_keypoints",
            "down_dims",
            "kernel_size",
            "n_groups",
        ),
        *("use_separate_rgb_encoder_per_camera", "diffusion_step_embed_dim", "use_peft"),
        *("use_film_scale_modulation", "noise_scheduler_type", "num_train_timesteps"),
        *("beta_schedule", "beta_start", "beta_end", "prediction_type", "num_inference_steps"),
        *("clip_sample", "clip_sample_range"),
    ]
)
"""Options that are read, or that weights say better."""
OF_TRAINING = frozenset(
    [
        *("device", "use_amp", "push_to_hub", "repo_id", "private", "tags", "license"),
        *("pretrained_path", "pretrained_revision", "pretrained_backbone_weights"),
        *("drop_n_last_frames", "crop_is_random", "gradient_checkpointing", "compile_model"),
        *("compile_mode", "do_mask_loss_for_padding", "optimizer_lr", "optimizer_betas"),
        *("optimizer_eps", "optimizer_weight_decay", "scheduler_name", "scheduler_warmup_steps"),
    ]
)
"""What says nothing about the actions of a trained policy."""


class LeRobot:
    """Reads policies of LeRobot."""

    def detects(self, path: Path) -> bool:
        """Whether there is a policy of LeRobot, of whatever type."""
        return is_of_lerobot(path)

    def read(self, path: Path, *, ignored: Collection[str] = ()) -> ForeignPolicy:
        """Read a policy.

        Args:
            path: the folder.
            ignored: options of ``config.json`` that say nothing about actions although they are
                not known here.

        Raises:
            InputError: it is no diffusion policy, has options that are not supported, is
                incomplete or damaged; the message says what was found and what is supported.
        """
        from lfm_policy.policy.tensors import read_tensors  # torch

        file = path / CONFIG
        settings = Settings(read_json_object(file), str(file), FRAMEWORK)
        _check(settings, ignored)
        weights = read_tensors(path / MODEL)
        weights = {name: w.float() if w.is_floating_point() else w for name, w in weights.items()}
        scalings = read_scaling(path, settings, weights)
        train_steps = settings.count("num_train_timesteps")
        options, network = read_unet(
            _inside(weights, NETWORK),
            str(path / MODEL),
            n_groups=settings.count("n_groups"),
            train_steps=train_steps,
        )
        observed, shared = _observed(settings, scalings, weights, str(path / MODEL))
        action = _feature(settings.section("output_features"), ACTION)
        if len(action) != 1:
            raise InputError(f"{file}: actions have shape {action}; supported: one dimension")
        return ForeignPolicy(
            framework=FRAMEWORK,
            facts={"statistics": scalings.kept_in},
            observed=observed,
            action=scalings.of(ACTION, "ACTION", action, back=True),
            action_dim=action[0],
            network=options,
            weights=network,
            method=_method(settings, train_steps),
            sampler=_sampler(settings, train_steps),
            steps={
                key: settings.count(key) for key in ("n_obs_steps", "horizon", "n_action_steps")
            },
            shared_cameras=shared,
        )


LEROBOT = LeRobot()


def _check(settings: Settings, ignored: Collection[str]) -> None:
    if "type" not in settings:
        raise InputError(
            f"{settings.label}: says no policy type and has "
            f"{', '.join(sorted(settings.values)[:4])}: it is of a LeRobot before 0.1, whose files "
            "LeRobot itself converts (`lerobot/common/policies`); supported: 0.1 and later"
        )
    settings.require("type", TYPE)
    settings.require("use_peft", False, absent=False)
    known = USED | OF_TRAINING | set(ignored)
    unknown = [k for k, v in settings.values.items() if k not in known and v not in (None, False)]
    if unknown:
        found = ", ".join(f"{key}={str(settings.values[key])[:60]}" for key in unknown[:5])
        raise InputError(
            f"{settings.label}: has {found}, which no LeRobot up to 0.6 has: it may change what "
            f"the policy does. Where it does not, say so: --ignore {unknown[0]}"
        )
    if ("resize_shape" in settings) != ("crop_ratio" in settings):
        raise InputError(
            f"{settings.label}: has one of resize_shape and crop_ratio without the other; LeRobot "
            "has had both since 0.6, and neither before: add the missing one"
        )


def _method(settings: Settings, train_steps: int) -> dict[str, Any]:
    settings.require("prediction_type", ("epsilon", "sample"))
    settings.require("beta_schedule", ("squaredcos_cap_v2", "linear", "scaled_linear"))
    return {
        "name": "diffusion",
        "prediction": settings.get("prediction_type", str),
        "beta_schedule": settings.get("beta_schedule", str),
        "beta_start": settings.get("beta_start", float),
        "beta_end": settings.get("beta_end", float),
        "train_steps": train_steps,
        "clip_sample": settings.get("clip_sample", bool),
        "clip_range": float(settings.get("clip_sample_range", (float, int))),
        "spacing": "leading",
    }


def _sampler(settings: Settings, train_steps: int) -> dict[str, Any]:
    settings.require("noise_scheduler_type", ("DDPM", "DDIM"))
    asked = settings.get("num_inference_steps", (int, type(None)))
    return {
        "solver": settings.get("noise_scheduler_type", str).lower(),
        "nfe": train_steps if asked is None else settings.count("num_inference_steps"),
    }


def _observed(
    settings: Settings, scalings: LeRobotScaling, weights: dict[str, Tensor], label: str
) -> tuple[tuple[Observed, ...], bool]:
    """Return what is observed, in LeRobot's order, and whether cameras share an encoder."""
    features = settings.section("input_features")
    types = {key: features.section(key).get("type", str) for key in features.values}
    shapes = {key: _feature(features, key) for key in types}
    unknown = {key: kind for key, kind in types.items() if kind not in ("STATE", "ENV", "VISUAL")}
    if unknown:
        raise InputError(
            f"{features.label}: observations of the types {unknown}; supported: STATE, ENV, VISUAL"
        )
    states = _only(STATE, [key for key, kind in types.items() if kind == "STATE"], features)
    environments = _only(ENVIRONMENT, [k for k, kind in types.items() if kind == "ENV"], features)
    images = [key for key, kind in types.items() if kind == "VISUAL"]
    cameras, shared = _cameras(settings, images, shapes, scalings, weights, label)
    observed = [
        *(Observed(k, shapes[k], scalings.of(k, "STATE", shapes[k])) for k in states),
        *(Observed(k, _image_shape(shapes[k]), camera=cameras[k]) for k in images),
        *(Observed(k, shapes[k], scalings.of(k, "ENV", shapes[k])) for k in environments),
    ]
    names = scalings.recorded_names
    renamed = [Observed(names.get(o.key, o.key), o.shape, o.scaling, o.camera) for o in observed]
    return tuple(renamed), shared


def _only(expected: str, found: list[str], features: Settings) -> list[str]:
    """Return those of the observations of one type that LeRobot's diffusion policy looks at."""
    others = [key for key in found if key != expected]
    if others and expected not in found:
        raise InputError(
            f"{features.label}: observes {', '.join(others)}, but not '{expected}', which is what "
            "LeRobot's diffusion policy looks at"
        )
    if others:  # as it lists them of every dataset that has them
        warnings.warn(
            f"{features.label}: {', '.join(others)} is left out, because LeRobot's diffusion "
            f"policy looks at '{expected}' alone",
            stacklevel=2,
        )
    return [expected] if found else []


def _cameras(
    settings: Settings,
    images: list[str],
    shapes: dict[str, tuple[int, ...]],
    scalings: LeRobotScaling,
    weights: dict[str, Tensor],
    label: str,
) -> tuple[dict[str, Camera], bool]:
    if not images:
        return {}, False
    from lfm_policy.importing.cameras import read_camera

    separate = settings.get("use_separate_rgb_encoder_per_camera", bool)
    resize, crop = _views(settings)
    cameras, scaled = {}, []
    for n, key in enumerate(images):
        scale, shift = scalings.of_image(key, shapes[key])
        scaled.append(np.stack([np.ravel(scale), np.ravel(shift)]))
        cameras[key] = read_camera(
            _inside(weights, f"{CAMERA}{n}." if separate else CAMERA),
            label,
            frame=_image_shape(shapes[key]),
            resize=resize,
            crop=crop,
            scale=scale,
            shift=shift,
        )
    # Scales are a part of our encoders: where cameras differ in them, each gets a copy of its own.
    alike = all(np.array_equal(scales, scaled[0]) for scales in scaled)
    return cameras, not separate and len(images) > 1 and alike


def _views(settings: Settings) -> tuple[list[int], list[int]]:
    """Return to what size images are resized, and what is seen of them; empty: as they are."""
    crop = settings.get("crop_shape", (list, type(None))) or []
    if "resize_shape" not in settings:  # before 0.6
        return [], crop
    resize = settings.get("resize_shape", (list, type(None))) or []
    ratio = settings.get("crop_ratio", (float, int))
    if resize:
        crop = [int(side * ratio) for side in resize] if ratio < 1 else []
    return resize, crop


def _feature(features: Settings, key: str) -> tuple[int, ...]:
    shape = features.section(key).get("shape", list)
    if not shape or not all(type(size) is int and size > 0 for size in shape):
        raise InputError(f"{features.label}: {key} has shape {shape}, expected positive sizes")
    return tuple(shape)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return LeRobot's (channels, height, width) as (height, width, channels)."""
    if len(shape) != 3 or shape[0] not in (1, 3, 4):
        raise InputError(f"images have shape {shape}; supported: 1, 3 or 4 channels, height, width")
    return (*shape[1:], shape[0])


def _inside(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
