"""The demonstrations that a configuration names, as training and networks need them."""

from __future__ import annotations

from pathlib import Path

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle, build_datasets
from lfm_policy.data.images.cache import DEFAULT_CACHE, ImageCache
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.tools.detect import of_another_format
from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import DataSpec

IMAGE_CACHE = "image-cache"
"""Name of the folder, beside a run's, that holds decoded camera images."""


def load_datasets(
    config: ExperimentConfig,
    image_cache: Path | None = None,
    *,
    kept: Normalizer | None = None,
    quiet: bool = True,
) -> DatasetBundle:
    """Load the demonstrations of a configuration.

    Decoded images go into the folder ``image_cache``, at the size that the encoder looks at.
    ``kept`` is the normaliser of an earlier training, whose transforms stay.

    Raises:
        InputError: as `build_datasets`; or the format reads no depth, and some is asked for.
    """
    policy, scaling = config.policy, config.normalization
    try:
        data = build_datasets(
            config.dataset,
            policy.n_obs_steps,
            policy.horizon,
            policy.n_action_steps,
            {"default": scaling.obs, "action": scaling.action, **scaling.keys},
            image_cache=ImageCache(image_cache or DEFAULT_CACHE, config.encoder.frame_size),
            kept=kept,
            quiet=quiet,
        )
    except InputError as error:
        if advice := of_another_format(config.dataset):
            raise InputError(f"{error}{advice}") from None
        raise
    if len(data.depth) < len(config.dataset.depth):
        raise InputError(
            f"dataset.depth names {', '.join(config.dataset.depth)}, but the format "
            f"{config.dataset.name} reads no depth: leave it out, or write the data as zarr"
        )
    if config.dataset.tasks and not data.tasks:
        raise InputError(
            f"dataset.tasks is {config.dataset.tasks}, but the format {config.dataset.name} names "
            "no tasks: leave it out"
        )
    return data


def data_spec(data: DatasetBundle) -> DataSpec:
    """Return what the networks have to know of the data."""
    return DataSpec(
        data.obs_shapes,
        data.action_dim,
        data.fingerprint,
        data.float64_keys,
        data.depth,
        data.tasks,
    )
